/** How long a way's first byte takes of late: the next way is begun beside one that takes longer than most. */
import { HEDGE_CEILING_MS, HEDGE_FLOOR_MS, HEDGE_SAMPLES_COUNT, HEDGE_START_MS } from '../limits.ts'
import { createSamples } from '../upstream/samples.ts'

export interface FirstBytes {
  /** The p80 of the last ones, in milliseconds and within bounds. */
  delayMs(): number
  /** A first byte came after so long. */
  came(afterMs: number): void
  /**
   * None came in so long. Counted too, as at least what we are patient for today: a delay that learns from successes
   * alone locks itself at its floor once it is there (spegel#1469).
   */
  missed(afterMs: number): void
}

export function createFirstBytes(): FirstBytes {
  const samples = createSamples(HEDGE_SAMPLES_COUNT)
  const delayMs = (): number => {
    if (samples.count < MIN_SAMPLES) return HEDGE_START_MS
    const p80 = samples.percentile(0.8) ?? HEDGE_START_MS
    return Math.min(HEDGE_CEILING_MS, Math.max(HEDGE_FLOOR_MS, p80))
  }
  return {
    delayMs,
    came: (afterMs) => samples.add(afterMs),
    missed: (afterMs) => samples.add(Math.max(afterMs, delayMs())),
  }
}

const MIN_SAMPLES = 5
