/** Those who may be asked for blocks of one NAR, taken together. */
import type { BlockSource } from '../source.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { ALL_BLOCKS } from './scores.ts'
import type { Scores } from './scores.ts'

/** Just now, as a snapshot: neighbours come and go, and not everybody is to hear of every path. */
export type BlockSources = (info: VerifiedNarInfo) => readonly BlockSource[]

/** Of those worth waiting for, the average of the slowest one; 0 while nobody knows. */
export function slowestBlockMs(sources: readonly BlockSource[], scores: Scores): number {
  return Math.max(0, ...sources.map(({ id }) => (scores.trusted(id) ? scores.averageMs(id) : 0) ?? 0))
}

/** Another way gave something before any of them did. @param begunAt when they were asked, in the clock's milliseconds */
export function tellSilence(sources: readonly BlockSource[], scores: Scores, begunAt: number): void {
  if (!sources.some(({ id }) => scores.deliveredSince(id, begunAt))) scores.faulted(ALL_BLOCKS, begunAt)
}
