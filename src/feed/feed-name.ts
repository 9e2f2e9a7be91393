import { quote } from '../nix/quote.ts'
import { FeedFormatError } from './errors.ts'

/** Such as `narswarm.example.org/main`: what a user pins, together with the root key. */
export type FeedName = string & { readonly __feedName: true }

const MAX_CHARS = 128
const LABEL = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?'
const HOST = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`)
/** No empty segment, and none that is `.` or `..` or a hidden file. */
const SEGMENT = /^[a-z0-9_-][a-z0-9._-]*$/

/**
 * A host-like part, then one or more segments of `[a-z0-9._-]`, at most 128 characters. Strict, since names become
 * note key names, parts of URLs and file names.
 *
 * @throws FeedFormatError
 */
export function parseFeedName(text: string): FeedName {
  if (!isFeedName(text)) {
    throw new FeedFormatError(
      `feed name: expected lower-case host/segment, such as narswarm.example.org/main, got ${quote(text)}`,
    )
  }
  return text
}

export function isFeedName(text: string): text is FeedName {
  const [host = '', ...segments] = text.split('/')
  return (
    text.length <= MAX_CHARS &&
    HOST.test(host) &&
    segments.length > 0 &&
    segments.every((segment) => SEGMENT.test(segment))
  )
}

/** The name as one file name. `,` is in no name, so two names never meet and {@link feedNameOfStem} leads back. */
export function feedFileStem(name: FeedName): string {
  return name.replaceAll('/', ',')
}

/** @throws FeedFormatError */
export function feedNameOfStem(stem: string): FeedName {
  if (stem.includes('/')) throw new FeedFormatError(`feed file name: expected no /, got ${quote(stem)}`)
  return parseFeedName(stem.replaceAll(',', '/'))
}

/** The origin line of a feed's log. An epoch is one log; a new one begins when a log key is replaced after a theft. */
export function originOf(name: FeedName, epoch: number): string {
  return `${name}/e${epoch}`
}
