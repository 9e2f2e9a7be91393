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

export interface Patience {
  /** Milliseconds; the ceiling before enough is known. */
  readonly deadlineMs: number
  took(ms: number): void
}

export function createPatience({ floorMs, ceilingMs }: { floorMs: number; ceilingMs: number }): Patience {
  /** A ring. */
  const samples: number[] = []
  let next = 0
  let deadlineMs: number | undefined = ceilingMs

  function learn(): number {
    if (samples.length < PATIENCE_MIN_SAMPLES_COUNT) return ceilingMs
    const sorted = samples.toSorted((a, b) => a - b)
    const high = sorted[Math.ceil(sorted.length * PATIENCE_PERCENTILE) - 1] ?? ceilingMs
    return Math.round(Math.min(ceilingMs, Math.max(floorMs, high * PATIENCE_FACTOR)))
  }

  return {
    get deadlineMs() {
      deadlineMs ??= learn()
      return deadlineMs
    },
    took(ms) {
      samples[next] = ms
      next = (next + 1) % PATIENCE_SAMPLES_COUNT
      deadlineMs = undefined
    },
  }
}
