import { SPOOL_IN_USE_MS } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import { isLately } from '../state/lately.ts'

/** 'open': a reader has the file open. 'recent': whoever read it may come back for its next piece. */
export type Use = 'open' | 'recent' | 'idle'

/** Which NARs are being read, so that eviction takes them last or not at all. */
export interface InUse {
  /** @returns what the reader calls when it is done, once */
  enter(narHash: NarHash): () => void
  of(narHash: NarHash): Use
}

export function createInUse(clock: () => number): InUse {
  const readers = new Map<NarHash, number>()
  /** In order of last use, so that the old ones are at the front. */
  const lastUse = new Map<NarHash, number>()

  const used = (narHash: NarHash): void => {
    const now = clock()
    lastUse.delete(narHash)
    lastUse.set(narHash, now)
    for (const [oldest, at] of lastUse) {
      if (now - at <= SPOOL_IN_USE_MS) break
      lastUse.delete(oldest)
    }
  }

  return {
    enter(narHash) {
      readers.set(narHash, (readers.get(narHash) ?? 0) + 1)
      used(narHash)
      return () => {
        const left = (readers.get(narHash) ?? 1) - 1
        if (left === 0) readers.delete(narHash)
        else readers.set(narHash, left)
        used(narHash)
      }
    },
    of(narHash) {
      if (readers.has(narHash)) return 'open'
      return isLately(lastUse.get(narHash), SPOOL_IN_USE_MS, clock) ? 'recent' : 'idle'
    },
  }
}
