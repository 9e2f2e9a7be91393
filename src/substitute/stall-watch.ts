/** When a way to a NAR's bytes is given up because it stands still: only while there is another one. */
import { FIRST_PROGRESS_MS, STALL_LOOK_MS, WAY_PROGRESS_BYTES, WAY_STALL_MS } from '../limits.ts'
import { WayStalledError } from './errors.ts'

export interface StallWatch {
  /** Aborts with a WayStalledError. */
  readonly signal: AbortSignal
  /** A block came, whatever its place: the scheduler sees to it that the next in order comes, too. */
  delivered(): void
  stop(): void
}

/**
 * @param way its name, for the message
 * @param deps.prefix bytes in hand
 * @param deps.isOther whether there is another way; asked once at most, since it may ask over the network
 */
export function watchForStall(
  way: string,
  deps: { clock: () => number; prefix: () => number; isOther: () => Promise<boolean> },
): StallWatch {
  const { clock, prefix, isOther } = deps
  const stalled = new AbortController()
  const first = prefix()
  let seen = first
  let seenAt = clock()
  let blocks = 0
  let patienceMs = FIRST_PROGRESS_MS
  let other: boolean | undefined

  const hasMoved = (): boolean => {
    const now = prefix()
    if (blocks > 0 || now > first) patienceMs = WAY_STALL_MS
    if (blocks === 0 && now - seen < WAY_PROGRESS_BYTES) return false
    blocks = 0
    seen = now
    seenAt = clock()
    return true
  }

  const timer = setInterval(() => {
    if (hasMoved() || clock() - seenAt <= patienceMs) return
    if (other === true) {
      stalled.abort(new WayStalledError(`${way}: no progress for ${patienceMs} ms`))
    } else if (other === undefined) {
      other = false
      isOther().then(
        (is) => (other = is),
        // Whoever takes the next way hears of it.
        () => {},
      )
    }
  }, STALL_LOOK_MS)

  return { signal: stalled.signal, delivered: () => blocks++, stop: () => clearInterval(timer) }
}
