/** Tells all who wait that something moved. Waiters look for themselves what. */
export interface Progress {
  notify(): void
  /** Resolves at the next `notify`. @throws the signal's reason when it aborts first */
  wait(signal: AbortSignal): Promise<void>
}

export function createProgress(): Progress {
  let waiting = new Set<() => void>()
  return {
    notify() {
      const woken = waiting
      waiting = new Set()
      for (const wake of woken) wake()
    },
    async wait(signal) {
      signal.throwIfAborted()
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener('abort', wake)
          waiting.delete(wake)
          resolve()
        }
        waiting.add(wake)
        signal.addEventListener('abort', wake, { once: true })
      })
      signal.throwIfAborted()
    },
  }
}
