/**
 * How long an answer may take, learnt from how long the last ones took. One that was given up counts as one that took
 * that long, so that a host that got slower is not cut off for ever.
 */
import {
  PATIENCE_FACTOR,
  PATIENCE_MIN_SAMPLES_COUNT,
  PATIENCE_PERCENTILE,
  PATIENCE_SAMPLES_COUNT,
} from '../limits.ts'
import { createSamples } from './samples.ts'

export interface Patience {
  /** Milliseconds; the ceiling before enough is known. */
  readonly deadlineMs: number
  took(ms: number): void
}

export function createPatience({ floorMs, ceilingMs }: { floorMs: number; ceilingMs: number }): Patience {
  const samples = createSamples(PATIENCE_SAMPLES_COUNT)
  let deadlineMs: number | undefined = ceilingMs

  function learn(): number {
    if (samples.count < PATIENCE_MIN_SAMPLES_COUNT) return ceilingMs
    const high = samples.percentile(PATIENCE_PERCENTILE) ?? ceilingMs
    return Math.round(Math.min(ceilingMs, Math.max(floorMs, high * PATIENCE_FACTOR)))
  }

  return {
    get deadlineMs() {
      deadlineMs ??= learn()
      return deadlineMs
    },
    took(ms) {
      samples.add(ms)
      deadlineMs = undefined
    },
  }
}
