/** Something that goes on as long as it moves. */
export interface QuietWatch {
  moved(): void
  stop(): void
}

/** @param onQuiet called once, when nothing has moved for so long */
export function watchQuiet(quietMs: number, onQuiet: () => void): QuietWatch {
  let isOver = false
  let timer: NodeJS.Timeout | undefined
  let check: NodeJS.Immediate | undefined
  const disarm = (): void => {
    clearTimeout(timer)
    clearImmediate(check)
  }
  const arm = (): void => {
    timer = setTimeout(() => {
      // What came while this process was busy is heard of after its timers.
      check = setImmediate(() => {
        isOver = true
        onQuiet()
      })
    }, quietMs)
  }
  arm()
  return {
    moved() {
      if (isOver) return
      disarm()
      arm()
    },
    stop() {
      isOver = true
      disarm()
    },
  }
}
