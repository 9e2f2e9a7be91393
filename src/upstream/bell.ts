/** Where one task waits until others have changed something. */
export interface Bell {
  ring(): void
  /** Looks at once, and again at each ring. One waits at a time. */
  until(ready: () => boolean): Promise<void>
}

export function createBell(): Bell {
  let wake = (): void => {}
  return {
    ring: () => wake(),
    async until(ready) {
      while (!ready()) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}
