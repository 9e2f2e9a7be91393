/**
 * The files of a feed below its prefix: `root/<v>`, and for each epoch a C2SP tlog-tiles log in `e<epoch>/`. An epoch has
 * its own folder because tiles never change once made [security 2.2].
 */
import { parseDecimal } from './decimal.ts'
import { isFeedName, type FeedName } from './feed-name.ts'
import { TILE_WIDTH } from './merkle.ts'

export type FeedPath =
  | { kind: 'root'; version: number }
  | { kind: 'checkpoint'; epoch: number }
  /** Of `width` entries: 256 is the full bundle. */
  | { kind: 'entries'; epoch: number; n: number; width: number }
  | { kind: 'tile'; epoch: number; level: number; n: number; width: number }

/** C2SP tlog-tiles: the level of a tile is 0 to 63. */
const MAX_LEVEL = 63

export function formatFeedPath(path: FeedPath): string {
  switch (path.kind) {
    case 'root':
      return `root/${path.version}`
    case 'checkpoint':
      return `e${path.epoch}/checkpoint`
    case 'entries':
      return `e${path.epoch}/tile/entries/${formatIndex(path.n)}${formatWidth(path.width)}`
    default:
      return `e${path.epoch}/tile/${path.level}/${formatIndex(path.n)}${formatWidth(path.width)}`
  }
}

/** The one spelling of each path; `undefined` for every other text. Files are opened by what this gives, never by the text. */
export function parseFeedPath(text: string): FeedPath | undefined {
  const path = readPath(text)
  return path !== undefined && formatFeedPath(path) === text ? path : undefined
}

/**
 * Takes `<name>/<path>` apart, as it comes in a URL; `undefined` unless both are well formed. A path begins with `root/`
 * or `e<epoch>/` and has a fixed shape, so there is never more than one way.
 */
export function splitFeedPath(text: string): { name: FeedName; path: string } | undefined {
  const match = /^(.+?)\/(root\/[0-9]+|e[0-9]+\/(?:checkpoint|tile\/.+))$/.exec(text)
  const [, name, path] = match ?? []
  if (name === undefined || path === undefined || parseFeedPath(path) === undefined) return undefined
  return isFeedName(name) ? { name, path } : undefined
}

function readPath(text: string): FeedPath | undefined {
  const root = /^root\/([0-9]{1,16})$/.exec(text)
  if (root !== null) {
    const version = parseDecimal(root[1] ?? '')
    return version === undefined || version < 1 ? undefined : { kind: 'root', version }
  }
  const file =
    /^e([0-9]{1,16})\/(?:checkpoint|tile\/(entries|[0-9]{1,2})\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([0-9]{1,3}))?)$/
  const match = file.exec(text)
  if (match === null) return undefined
  const [, epochText = '', level, indexText, widthText] = match
  const epoch = parseDecimal(epochText)
  if (epoch === undefined || epoch < 1) return undefined
  if (level === undefined || indexText === undefined) return { kind: 'checkpoint', epoch }
  const n = Number(indexText.replaceAll(/[x/]/g, ''))
  const width = widthText === undefined ? TILE_WIDTH : Number(widthText)
  // The full one has no suffix.
  if (!Number.isSafeInteger(n) || (widthText !== undefined && (width < 1 || width >= TILE_WIDTH)))
    return undefined
  if (level === 'entries') return { kind: 'entries', epoch, n, width }
  return Number(level) > MAX_LEVEL ? undefined : { kind: 'tile', epoch, level: Number(level), n, width }
}

/** C2SP: 1234067 is `x001/x234/067`. */
function formatIndex(n: number): string {
  const digits = String(n)
  const padded = digits.padStart(Math.ceil(digits.length / 3) * 3, '0')
  const groups = padded.match(/.{3}/g) ?? []
  return groups.map((group, at) => (at === groups.length - 1 ? group : `x${group}`)).join('/')
}

function formatWidth(width: number): string {
  return width === TILE_WIDTH ? '' : `.p/${width}`
}
