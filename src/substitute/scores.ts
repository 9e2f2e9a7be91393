/**
 * What we know of each source: how fast, how reliable, whether it is out for now. Kept in memory: a peer that was
 * down yesterday may be the best one today.
 */
import { SCORE_BACK_OFF_MAX_MS, SCORE_BACK_OFF_MS, SCORE_LIE_BACK_OFF_MS } from '../limits.ts'
import type { SourceId } from '../source.ts'

interface Score {
  /** Moving average of one block, milliseconds; undefined before the first. */
  readonly averageMs: number | undefined
  readonly bytes: number
  readonly faults: number
  readonly lies: number
  /** Milliseconds of the clock until which it is not asked. */
  readonly outUntil: number
}

export interface Scores {
  delivered(id: SourceId, bytes: number, tookMs: number): void
  faulted(id: SourceId): void
  lied(id: SourceId): void
  usable(id: SourceId): boolean
  averageMs(id: SourceId): number | undefined
  all(): ReadonlyMap<SourceId, Score>
}

/** Weight of the newest measurement: about the last ten blocks count. */
const NEWEST = 0.2

export function createScores(deps: { clock: () => number }): Scores {
  interface Entry {
    averageMs: number | undefined
    bytes: number
    faults: number
    lies: number
    inARow: number
    outUntil: number
    liedUntil: number
  }
  const entries = new Map<SourceId, Entry>()
  const entry = (id: SourceId): Entry => {
    let found = entries.get(id)
    if (found === undefined) {
      found = { averageMs: undefined, bytes: 0, faults: 0, lies: 0, inARow: 0, outUntil: 0, liedUntil: 0 }
      entries.set(id, found)
    }
    return found
  }

  return {
    delivered(id, bytes, tookMs) {
      const one = entry(id)
      one.averageMs = one.averageMs === undefined ? tookMs : one.averageMs * (1 - NEWEST) + tookMs * NEWEST
      one.bytes += bytes
      one.inARow = 0
      // A right block beside a wrong one does not make up for it.
      one.outUntil = one.liedUntil
    },
    faulted(id) {
      const one = entry(id)
      one.faults += 1
      one.inARow += 1
      const backOff = Math.min(SCORE_BACK_OFF_MAX_MS, SCORE_BACK_OFF_MS * 2 ** (one.inARow - 1))
      one.outUntil = Math.max(one.outUntil, deps.clock() + backOff)
    },
    lied(id) {
      const one = entry(id)
      one.lies += 1
      one.liedUntil = deps.clock() + SCORE_LIE_BACK_OFF_MS
      one.outUntil = Math.max(one.outUntil, one.liedUntil)
    },
    usable: (id) => (entries.get(id)?.outUntil ?? 0) <= deps.clock(),
    averageMs: (id) => entries.get(id)?.averageMs,
    all: () => entries,
  }
}
