/**
 * NARs whose leaves nobody has hashed yet: they came as a stream, and hashing leaves while Nix waits would take as long
 * again as proving the NAR. It is done when nothing moves any more, for those that are still here then.
 */
import { LATE_INDEX_IDLE_MS, LATE_INDEX_MAX_COUNT } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { CallOptions } from '../source.ts'
import type { VerifiedNarInfo } from './policy.ts'

export interface LateIndex {
  add(info: VerifiedNarInfo): void
  /** Something moves: begins to wait anew. */
  busy(): void
}

/** @param options.signal ends it for good */
export function createLateIndex(
  deps: {
    isIdle(): boolean
    /** Reads the NAR and puts it into the index, if it is still in the spool. Throws for the signal's sake alone. */
    index(info: VerifiedNarInfo, options: CallOptions): Promise<void>
  },
  { signal }: CallOptions,
): LateIndex {
  const waiting = new Map<NarHash, VerifiedNarInfo>()
  let timer: NodeJS.Timeout | undefined
  let working = false

  function wait(): void {
    clearTimeout(timer)
    if (waiting.size === 0 || signal.aborted) return
    timer = setTimeout(() => void work(), LATE_INDEX_IDLE_MS)
    timer.unref()
  }

  async function work(): Promise<void> {
    if (working) return
    working = true
    try {
      while (deps.isIdle() && !signal.aborted) {
        const [next] = waiting
        if (next === undefined) break
        const [narHash, info] = next
        waiting.delete(narHash)
        await deps.index(info, { signal })
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      working = false
      wait()
    }
  }

  return {
    add(info) {
      if (waiting.size < LATE_INDEX_MAX_COUNT) waiting.set(info.narHash, info)
      wait()
    },
    busy: wait,
  }
}
