/** Lets so many pass, then holds all others until it is opened: "in the middle" without luck. */
export interface Gate {
  pass(): Promise<void>
  /** Resolves when somebody is held. */
  readonly full: Promise<void>
  open(): void
}

export function createGate(count: number): Gate {
  const { promise: full, resolve: onFull } = Promise.withResolvers<void>()
  const { promise: opened, resolve: open } = Promise.withResolvers<void>()
  let passed = 0
  return {
    full,
    open,
    async pass() {
      passed += 1
      if (passed <= count) return
      onFull()
      await opened
    },
  }
}
