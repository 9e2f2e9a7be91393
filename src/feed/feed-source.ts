import { FEED_BUNDLE_MAX_BYTES, FEED_BUNDLES_AHEAD_COUNT, FEED_FETCH_DEADLINE_MS } from '../limits.ts'
import {
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  type CallOptions,
  type SourceId,
} from '../source.ts'
import { parseBundle } from './bundle.ts'
import { formatFeedPath, type FeedPath } from './feed-path.ts'
import { TILE_WIDTH } from './merkle.ts'

/**
 * One file below the feed's prefix; `undefined` when it is not there. May throw whatever it likes, and reads no more than
 * `maxBytes`.
 */
type FetchFeedFile = (
  path: string,
  options: CallOptions & { maxBytes: number },
) => Promise<Uint8Array | undefined>

/** An untrusted pipe for a feed's files: web host, mirror, neighbour, folder. */
export interface FeedSource {
  readonly id: SourceId
  readonly fetch: FetchFeedFile
}

/** @throws SourceFaultError, SourceLieError; what the signal says when it is aborted */
export async function fetchFeedFile(
  source: FeedSource,
  path: FeedPath,
  maxBytes: number,
  { signal }: CallOptions,
): Promise<Uint8Array | undefined> {
  signal.throwIfAborted()
  const name = formatFeedPath(path)
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(FEED_FETCH_DEADLINE_MS)])
  let bytes: Uint8Array | undefined
  try {
    bytes = await unlessAborted(source.fetch(name, { signal: bounded, maxBytes }), bounded)
  } catch (cause) {
    signal.throwIfAborted()
    const reason = cause instanceof Error ? cause.message : 'no answer'
    throw new SourceFaultError(source.id, `${name}: ${reason}`, { cause })
  }
  if (bytes !== undefined && bytes.length > maxBytes) {
    throw new SourceLieError(source.id, `${name}: expected at most ${maxBytes} bytes, got ${bytes.length}`)
  }
  return bytes
}

/**
 * The entries `from` (inclusive) to `to` (exclusive) of a log, a bundle at a time, with some bundles asked for ahead.
 *
 * @throws SourceMissError, SourceFaultError, SourceLieError
 * @throws FeedFormatError on a malformed bundle
 */
export async function* fetchEntries(
  source: FeedSource,
  { epoch, from, to }: { epoch: number; from: number; to: number },
  { signal }: CallOptions,
): AsyncGenerator<Uint8Array[], void, undefined> {
  const leave = new AbortController()
  const options = { signal: AbortSignal.any([signal, leave.signal]) }
  const first = Math.floor(from / TILE_WIDTH)
  const end = Math.ceil(to / TILE_WIDTH)
  const ahead: Promise<Uint8Array[]>[] = []
  let asked = first
  try {
    for (let n = first; n < end; n++) {
      for (; asked < Math.min(end, n + FEED_BUNDLES_AHEAD_COUNT); asked++) {
        const bundle = fetchBundle(
          source,
          epoch,
          asked,
          Math.min(TILE_WIDTH, to - asked * TILE_WIDTH),
          options,
        )
        // Its failure is told when its turn comes, or not at all.
        bundle.catch(() => undefined)
        ahead.push(bundle)
      }
      const entries = (await ahead.shift()) ?? []
      yield n === first ? entries.slice(from - first * TILE_WIDTH) : entries
    }
  } finally {
    leave.abort()
  }
}

/** A partial bundle may be gone once the full one is there (C2SP tlog-tiles, "Partial Tiles"). */
async function fetchBundle(
  source: FeedSource,
  epoch: number,
  n: number,
  width: number,
  options: CallOptions,
): Promise<Uint8Array[]> {
  const path: FeedPath = { kind: 'entries', epoch, n, width }
  const partial = await fetchFeedFile(source, path, FEED_BUNDLE_MAX_BYTES, options)
  if (partial !== undefined) return parseBundle(partial, width)
  const full =
    width === TILE_WIDTH
      ? undefined
      : await fetchFeedFile(source, { ...path, width: TILE_WIDTH }, FEED_BUNDLE_MAX_BYTES, options)
  if (full === undefined) throw new SourceMissError(source.id, `${formatFeedPath(path)} is not there`)
  return parseBundle(full, TILE_WIDTH).slice(0, width)
}

/** A pipe that does not heed its signal must not hold us. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
