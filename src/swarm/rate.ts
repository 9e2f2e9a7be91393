/** So many a second of something, and a burst of it after a rest. */
export interface Rate {
  /** @returns milliseconds until `count` more are due, or undefined when that is longer than `maxWaitMs`: nothing is counted then */
  take(count: number, maxWaitMs: number): number | undefined
}

/** @param clock milliseconds, monotonic */
export function createRate(config: { perSecond: number; burst: number }, clock: () => number): Rate {
  const { perSecond, burst } = config
  /** When all that was taken would be through, were there no burst. */
  let until = -Infinity
  return {
    take(count, maxWaitMs) {
      const now = clock()
      const next = Math.max(until, now - (burst * 1000) / perSecond) + (count * 1000) / perSecond
      if (next - now > maxWaitMs) return undefined
      until = next
      return Math.max(0, next - now)
    },
  }
}
