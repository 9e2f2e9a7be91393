/**
 * Reading along: what no neighbour told a narinfo of may be on its way to one of them, or there by now. All who want a NAR
 * at the same moment ask each other; those behind in the NAR's order wait for those before them, a little, and one
 * of them fetches it (docs/adr/018).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request } from 'undici'
import {
  ALONG_ANSWER_MS,
  ALONG_ASKED_MAX_COUNT,
  ALONG_CONNECTIONS_COUNT,
  ALONG_EXPECTED_WAIT_MS,
  ALONG_LATE_MAX_COUNT,
  ALONG_LATE_MS,
  ALONG_MIN_BYTES,
  ALONG_REQUEST_MS,
  ALONG_WAIT_MS,
  UPSTREAM_CONNECT_DEADLINE_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { CallOptions, NarRef, SourceId, StreamSource } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import { abortable } from '../upstream/abortable.ts'
import { sourceError } from '../upstream/source-error.ts'
import { alongHeaders, alongUrl, createAlongStream, isNar } from './along-stream.ts'
import type { AlongRequest } from './along-wire.ts'
import { isNarswarmId, sourcesOf } from './neighbour-id.ts'
import type { Neighbour, NeighbourId, Neighbours } from './neighbours.ts'
import { rendezvousOrder } from './rendezvous.ts'

export interface AlongFinder {
  /**
   * A neighbour that has the NAR, or is fetching it; undefined when it is our turn to. Within ALONG_WAIT_MS.
   *
   * @param without sources that were tried already
   */
  find(nar: NarRef, without: ReadonlySet<SourceId>, options: CallOptions): Promise<StreamSource | undefined>
  /** Cuts what is under way and closes the connections. */
  close(): Promise<void>
}

export interface AlongFinderDeps {
  readonly neighbours: Neighbours
  /** As neighbours know us; undefined while nobody can ask us: then all others are before us. */
  self(): NeighbourId | undefined
  /** Not in a back-off for its NARs. */
  usable(id: SourceId): boolean
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  readonly log: Log
}

/** What a neighbour says of a NAR: that all of it is there, or what has come of it. */
type Found = 'whole' | 'growing'

interface Asked {
  readonly one: Neighbour
  readonly along: AlongRequest
}

export function createAlongFinder(deps: AlongFinderDeps): AlongFinder {
  const { neighbours, clock, log } = deps
  /** Apart, so that no question queues up behind NARs. */
  const [asking, reading] = [createAgent(), createAgent()]
  const closing = new AbortController()
  /** Not in step with us. */
  const late = createFading<NeighbourId, true>({ max: ALONG_LATE_MAX_COUNT, maxAgeMs: ALONG_LATE_MS, clock })
  /** Have not answered in time, and not until now: no other NAR waits for them (P8). */
  const overdue = new Set<NeighbourId>()

  function choose({ narHash }: NarRef, without: ReadonlySet<SourceId>): Asked[] {
    const near = new Map(
      neighbours
        .current()
        .filter(({ id, kind }) => kind === 'narswarm' && !overdue.has(id))
        .filter(({ id }) => !without.has(sourcesOf(id).nars) && deps.usable(sourcesOf(id).nars))
        .map((one) => [one.id, one]),
    )
    const self = deps.self()
    const order = rendezvousOrder(narHash, self === undefined ? near.keys() : [...near.keys(), self])
    const place = self === undefined ? order.length : order.indexOf(self)
    return order.slice(0, ALONG_ASKED_MAX_COUNT).flatMap((id, i) => {
      const one = near.get(id)
      // By its URL nobody knows where it stands in the order: it says so itself.
      const mayWait = i < place || !isNarswarmId(id)
      const begunMs = mayWait ? ALONG_WAIT_MS : 0
      const expectedMs = mayWait && !late.has(id) ? ALONG_EXPECTED_WAIT_MS : 0
      const as = self === undefined ? {} : { as: self }
      return one === undefined ? [] : [{ one, along: { begunMs, expectedMs, ...as } }]
    })
  }

  /** Resolves in time, whatever the neighbour does. */
  async function has({ one, along }: Asked, nar: NarRef): Promise<Found | undefined> {
    const begun = clock()
    const timer = new AbortController()
    const patience = sleep(Math.max(ALONG_ANSWER_MS, along.begunMs), 'late' as const, timer).catch(
      () => 'late' as const,
    )
    const answer = ask({ one, along }, nar).finally(() => overdue.delete(one.id))
    const found = await Promise.race([answer, patience])
    timer.abort()
    if (found === 'late') overdue.add(one.id)
    if (found === 'whole' || found === 'growing') {
      late.delete(one.id)
      return found
    }
    if (along.expectedMs > 0 && clock() - begun >= along.expectedMs) late.set(one.id, true)
    return undefined
  }

  /** By HEAD: of several that have it one is enough, and a body that nobody takes costs a connection. */
  async function ask({ one, along }: Asked, { narHash }: NarRef): Promise<Found | undefined> {
    const url = alongUrl(one, narHash)
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(ALONG_REQUEST_MS)])
    try {
      const headers = alongHeaders(along)
      const response = await request(url, { method: 'HEAD', dispatcher: asking, headers, signal })
      await response.body.dump()
      const found = isNar(one, response, 0)
      neighbours.answered(one.id)
      if (!found) return undefined
      return response.headers['cache-control'] === 'no-store' ? 'growing' : 'whole'
    } catch (error) {
      if (closing.signal.aborted) return undefined
      const { message } = sourceError(sourcesOf(one.id).nars, url, error)
      neighbours.failed(one.id, message)
      log.debug({ neighbour: one.id }, `a neighbour was asked for a NAR in vain: ${message}`)
      return undefined
    }
  }

  return {
    async find(nar, without, { signal }) {
      if (nar.narSize < ALONG_MIN_BYTES) return undefined
      const { promise: found, resolve } = Promise.withResolvers<
        { one: Neighbour; isGrowing: boolean } | undefined
      >()
      const answers = choose(nar, without).map(async (asked) => {
        const state = await has(asked, nar)
        if (state !== undefined) resolve({ one: asked.one, isGrowing: state === 'growing' })
      })
      void Promise.all(answers).then(() => resolve(undefined))
      const chosen = await abortable(found, signal)
      return chosen && createAlongStream(chosen.one, { dispatcher: reading, isGrowing: chosen.isGrowing })
    },
    async close() {
      closing.abort(new Error('narswarm is closing'))
      await Promise.all([asking.destroy(), reading.destroy()])
    },
  }
}

/** HTTP/1.1 alone: a GOAWAY of HTTP/2 can make a cut body look whole (security G10). */
function createAgent(): Agent {
  return new Agent({
    connections: ALONG_CONNECTIONS_COUNT,
    pipelining: 1,
    allowH2: false,
    connect: { timeout: UPSTREAM_CONNECT_DEADLINE_MS },
  })
}
