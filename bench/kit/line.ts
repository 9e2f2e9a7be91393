import { setTimeout as sleep } from 'node:timers/promises'

/** A line that carries so many bytes a second, over all that use it together. */
export interface Line {
  /** Resolves when so many bytes more are through. */
  carry(bytes: number): Promise<void>
}

/** Larger pieces than this come in bursts. */
export const LINE_PIECE_BYTES = 16 * 1024
/** What timers are late by is made good, but no more: a line saves nothing up. */
const BURST_MS = 20

/** @param burstMs what comes after a silence of so long comes at once: short, where somebody measures the line by small bodies */
export function createLine(bytesPerSecond: number, burstMs = BURST_MS): Line {
  /** Until when the line is taken. */
  let takenUntil = 0
  return {
    async carry(bytes) {
      const now = performance.now()
      takenUntil = Math.max(takenUntil, now - burstMs) + (bytes / bytesPerSecond) * 1000
      if (takenUntil > now) await sleep(takenUntil - now)
    },
  }
}
