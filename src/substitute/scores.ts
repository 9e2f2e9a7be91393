/**
 * What we know of each source: how fast, how reliable, whether it is out for now. Kept in memory: a peer that was
 * down yesterday may be the best one today. Of the latest SCORES_MAX_COUNT: ids cost a stranger nothing.
 */
import { LRUCache } from 'lru-cache'
import {
  PACE_MAX_AGE_MS,
  PACE_MIN_BYTES,
  SCORE_BACK_OFF_MAX_MS,
  SCORE_BACK_OFF_MS,
  SCORE_LIE_BACK_OFF_MS,
  SCORES_MAX_COUNT,
} from '../limits.ts'
import type { SourceId } from '../source.ts'
import { createFading } from '../spool/fading.ts'

interface Score {
  /** Moving average of one block, milliseconds; undefined before the first. */
  readonly averageMs: number | undefined
  readonly bytes: number
  /** What those bytes were on the wire; undefined when nobody counted it. */
  readonly wireBytes: number | undefined
  /** Of both those of blocks that came as the difference from one that is here. */
  readonly byDifference: WireBytes
  readonly faults: number
  readonly lies: number
  /** Milliseconds of the clock until which it is not asked. */
  readonly outUntil: number
}

interface WireBytes {
  readonly bytes: number
  readonly wireBytes: number
}

export interface Scores {
  delivered(
    id: SourceId,
    bytes: number,
    tookMs: number,
    onWire?: { readonly bytes: number; readonly byDifference: boolean },
  ): void
  /** So many bytes came, and then no more of them: counted, and nothing is made of it. */
  received(id: SourceId, bytes: number): void
  /** It answered, though not with bytes: whatever it failed at before is over. */
  answered(id: SourceId): void
  /**
   * @param begunAt when the request began, in the clock's milliseconds: of all that were under way when a source
   * failed, only one counts, in whichever NAR
   * @param reason absent when nothing had come of it until another way was quicker
   */
  faulted(id: SourceId, begunAt?: number, reason?: string): void
  /**
   * It gave nothing until another one had given the same. One that gave before may do so once: that is for the listener to
   * count. @param begunAt as for `faulted`
   */
  hung(id: SourceId, begunAt: number): void
  lied(id: SourceId, reason?: string): void
  /** Somebody knows better than we what to make of its lies. */
  forgiven(id: SourceId): void
  /** It had a part in a wrong NAR, and nobody knows which part was wrong: avoided as one that lied, and not called a liar. */
  suspected(id: SourceId): void
  /** Its back-off is over. */
  usable(id: SourceId): boolean
  /** Usable, and did not fail when it was last asked: worth waiting for (P8). */
  trusted(id: SourceId): boolean
  /** Whether it has delivered since then, to anybody. */
  deliveredSince(id: SourceId, time: number): boolean
  averageMs(id: SourceId): number | undefined
  /** Bytes that it gave. */
  bytes(id: SourceId): number
  /** So many bytes of one NAR came by this way, in that time. */
  paced(id: string, bytes: number, tookMs: number): void
  /** Bytes a second by this way, of late; undefined when nobody has measured it. */
  pace(id: string): number | undefined
  all(): ReadonlyMap<SourceId, Score>
}

/**
 * An id beside those of sources: all block sources together. It fails when not one of them gave a NAR anything before
 * another way did, and has answered when any of them has: else each dead peer would cost a NAR of its own.
 */
export const ALL_BLOCKS = 'blocks:'

/** Weight of the newest measurement: about the last ten blocks count. */
const NEWEST = 0.2

/** For who keeps account of whole machines. */
export interface ScoresListener {
  answered(id: SourceId): void
  /** @param reason as for `Scores.faulted` */
  faulted(id: SourceId, reason: string | undefined): void
  lied(id: SourceId, reason: string): void
}

/** @param deps.got told of all blocks whose bytes on the wire were counted, for sums outlast the sources */
export function createScores(deps: {
  clock: () => number
  listener?: ScoresListener
  got?: { add(bytes: number, wireBytes: number, byDifference: boolean): void }
}): Scores {
  interface Entry {
    averageMs: number | undefined
    bytes: number
    wireBytes: number | undefined
    byDifference: WireBytes
    faults: number
    lies: number
    inARow: number
    faultedAt: number
    hungAt: number
    deliveredAt: number
    outUntil: number
    liedUntil: number
  }
  const { clock, listener, got } = deps
  const entries = new LRUCache<SourceId, Entry>({ max: SCORES_MAX_COUNT })
  /** Bytes a second. */
  const paces = createFading<string, number>({ max: SCORES_MAX_COUNT, maxAgeMs: PACE_MAX_AGE_MS, clock })
  const entry = (id: SourceId): Entry => {
    let found = entries.get(id)
    if (found === undefined) {
      found = {
        averageMs: undefined,
        bytes: 0,
        wireBytes: undefined,
        byDifference: { bytes: 0, wireBytes: 0 },
        faults: 0,
        lies: 0,
        inARow: 0,
        faultedAt: -Infinity,
        hungAt: -Infinity,
        deliveredAt: -Infinity,
        outUntil: 0,
        liedUntil: 0,
      }
      entries.set(id, found)
    }
    return found
  }
  const usable = (id: SourceId): boolean => (entries.get(id)?.outUntil ?? 0) <= clock()
  const forgive = (one: Entry): void => {
    one.inARow = 0
    // A right block beside a wrong one does not make up for it.
    one.outUntil = one.liedUntil
  }
  const avoid = (one: Entry): void => {
    one.liedUntil = clock() + SCORE_LIE_BACK_OFF_MS
    one.outUntil = Math.max(one.outUntil, one.liedUntil)
  }
  return {
    delivered(id, bytes, tookMs, onWire) {
      const one = entry(id)
      one.averageMs = one.averageMs === undefined ? tookMs : one.averageMs * (1 - NEWEST) + tookMs * NEWEST
      one.bytes += bytes
      if (onWire !== undefined) {
        one.wireBytes = (one.wireBytes ?? 0) + onWire.bytes
        got?.add(bytes, onWire.bytes, onWire.byDifference)
      }
      if (onWire?.byDifference === true) {
        const { byDifference: so } = one
        one.byDifference = { bytes: so.bytes + bytes, wireBytes: so.wireBytes + onWire.bytes }
      }
      one.deliveredAt = clock()
      forgive(one)
      listener?.answered(id)
    },
    received(id, bytes) {
      entry(id).bytes += bytes
    },
    answered(id) {
      const known = entries.get(id)
      if (known !== undefined) forgive(known)
      listener?.answered(id)
    },
    faulted(id, begunAt = Infinity, reason) {
      const one = entry(id)
      if (begunAt <= one.faultedAt) return
      one.faultedAt = clock()
      one.faults += 1
      one.inARow += 1
      const backOff = Math.min(SCORE_BACK_OFF_MAX_MS, SCORE_BACK_OFF_MS * 2 ** (one.inARow - 1))
      one.outUntil = Math.max(one.outUntil, one.faultedAt + backOff)
      listener?.faulted(id, reason)
    },
    hung(id, begunAt) {
      const one = entry(id)
      if (begunAt <= Math.max(one.faultedAt, one.hungAt)) return
      one.hungAt = clock()
      listener?.faulted(id, undefined)
    },
    lied(id, reason = 'it gave wrong bytes') {
      const one = entry(id)
      one.lies += 1
      avoid(one)
      listener?.lied(id, reason)
    },
    forgiven(id) {
      const known = entries.get(id)
      if (known === undefined) return
      known.liedUntil = 0
      forgive(known)
    },
    suspected(id) {
      const one = entry(id)
      one.lies += 1
      avoid(one)
      listener?.faulted(id, 'it had a part in a NAR that proved wrong')
    },
    usable,
    trusted: (id) => usable(id) && (entries.get(id)?.inARow ?? 0) === 0,
    deliveredSince: (id, time) => (entries.get(id)?.deliveredAt ?? -Infinity) > time,
    averageMs: (id) => entries.get(id)?.averageMs,
    bytes: (id) => entries.get(id)?.bytes ?? 0,
    paced(id, bytes, tookMs) {
      if (bytes < PACE_MIN_BYTES) return
      const measured = (bytes / Math.max(1, tookMs)) * 1000
      const before = paces.get(id) ?? measured
      paces.set(id, before * (1 - NEWEST) + measured * NEWEST)
    },
    pace: (id) => paces.get(id),
    all: () => new Map(entries.entries()),
  }
}
