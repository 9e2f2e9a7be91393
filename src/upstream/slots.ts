import type { CallOptions } from '../source.ts'

/** So many at once; who comes later waits, first come, first served. */
export interface Slots {
  /** @throws the signal's reason when it aborts first */
  take(options: CallOptions): Promise<void>
  free(): void
}

export function createSlots(count: number): Slots {
  let left = count
  const waiting = new Set<() => void>()
  return {
    async take({ signal }) {
      signal.throwIfAborted()
      if (left > 0) {
        left -= 1
        return
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const giveUp = (): void => {
        waiting.delete(resolve)
        reject(signal.reason as Error)
      }
      waiting.add(resolve)
      signal.addEventListener('abort', giveUp, { once: true })
      try {
        await promise
      } finally {
        signal.removeEventListener('abort', giveUp)
      }
    },
    free() {
      const [first] = waiting
      if (first === undefined) left += 1
      else {
        // Handed over: nobody who comes in between can take it.
        waiting.delete(first)
        first()
      }
    },
  }
}
