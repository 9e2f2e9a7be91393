/** A NAR out of a neighbour that has it or is fetching it, from any byte on, as it comes there. Nothing of it is proved. */
import { request } from 'undici'
import type { Dispatcher } from 'undici'
import { ALONG_FIRST_BYTE_MS, UPSTREAM_FIRST_BYTE_CEILING_MS, UPSTREAM_STALL_MS } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import { COST, SourceFaultError, SourceMissError } from '../source.ts'
import type { CallOptions, NarRef, StreamSource } from '../source.ts'
import { abortable } from '../upstream/abortable.ts'
import { sourceError } from '../upstream/source-error.ts'
import { createWatch } from '../upstream/watch.ts'
import { ALONG_HEADER, formatAlong } from './along-wire.ts'
import type { AlongRequest } from './along-wire.ts'
import { sourcesOf } from './neighbour-id.ts'
import type { Neighbour } from './neighbours.ts'

/** Whoever reads tells `Scores` of its faults, and so the table of neighbours. */
export function createAlongStream(
  one: Neighbour,
  { dispatcher, isGrowing }: { dispatcher: Dispatcher; isGrowing: boolean },
): StreamSource {
  const { nars: id } = sourcesOf(one.id)

  async function* open(
    { narHash }: NarRef,
    from: number,
    options: CallOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const url = alongUrl(one, narHash)
    const watch = createWatch(id, url, UPSTREAM_FIRST_BYTE_CEILING_MS, options)
    const { signal } = watch
    try {
      const headers = {
        ...alongHeaders({ begunMs: 0, expectedMs: 0 }),
        ...(from > 0 ? { range: `bytes=${from}-` } : {}),
      }
      const response = await abortable(request(url, { dispatcher, headers, signal }), signal)
      // Destroyed early, the body emits an error that nobody waits for any more.
      response.body.on('error', () => {})
      if (!isNar(one, response, from)) {
        throw new SourceMissError(id, `${url.href}: it was there or on its way a moment ago`)
      }
      yield* watch.chunks(response.body, UPSTREAM_STALL_MS)
    } catch (error) {
      const reason = watch.reason(error)
      throw options.signal.aborted ? reason : sourceError(id, url, reason)
    } finally {
      watch.stop()
    }
  }

  return { id, cost: COST.neighbour, firstByteMs: ALONG_FIRST_BYTE_MS, isGrowing, open }
}

export function alongUrl(one: Neighbour, narHash: NarHash): URL {
  return new URL(`nar/${narHash}.nar`, one.url)
}

export function alongHeaders(along: AlongRequest): Record<string, string> {
  return { 'accept-encoding': 'identity', 'user-agent': 'narswarm', [ALONG_HEADER]: formatAlong(along) }
}

/**
 * No redirect is followed: a neighbour has nobody to send us to.
 *
 * @returns false for a miss
 * @throws SourceFaultError for what is neither a miss nor a NAR
 */
export function isNar(
  one: Neighbour,
  { statusCode, headers }: Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>,
  from: number,
): boolean {
  if (statusCode === 404) return false
  const check = (isRight: boolean, expected: string, came: unknown): void => {
    if (isRight) return
    const shown = JSON.stringify(came)?.slice(0, 80)
    throw new SourceFaultError(sourcesOf(one.id).nars, `${one.url.href}: expected ${expected}, got ${shown}`)
  }
  const type = headers['content-type']
  const encoding = headers['content-encoding']
  const range = String(headers['content-range'])
  check(statusCode === (from > 0 ? 206 : 200), 'a NAR or status 404', statusCode)
  check(type === 'application/x-nix-nar', 'a NAR', type)
  check(encoding === undefined, 'no Content-Encoding', encoding)
  check(from === 0 || range.startsWith(`bytes ${from}-`), `a Content-Range from ${from}`, range)
  return true
}
