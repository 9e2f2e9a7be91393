import { LRUCache } from 'lru-cache'
import { NEIGHBOURS_MAX_COUNT } from '../limits.ts'
import { neighbourOf, sourceKind } from '../source.ts'
import type { SourceId, SourceKind } from '../source.ts'

interface KindCount {
  /** Of NARs as they are, not as they were packed on the way. */
  readonly bytes: number
  /** Those that came or went out to their end, each counted where most of it came from. */
  readonly nars: number
}

/** Those of `spool` and `store` went out as they lay here, as often as they were asked for; all others came once. */
export interface NarCounts {
  readonly byKind: ReadonlyMap<SourceKind, KindCount>
  /** Bytes, blocks and whole NARs together, by the neighbour's id as a source of blocks. */
  readonly byNeighbour: ReadonlyMap<SourceId, number>
}

/** Who gave the bytes of NARs, since this process began. */
export interface Tally {
  /** Of one NAR that came: proved to its end, or kept for when it goes on. What an earlier run left does not count again. */
  came(bySource: ReadonlyMap<SourceId, number>, isWhole: boolean): void
  /** Of one that was here. */
  wentOut(from: 'spool' | 'store', bytes: number, isWhole: boolean): void
  total(): NarCounts
}

export function createTally(): Tally {
  const byKind = new Map<SourceKind, KindCount>()
  const byNeighbour = new LRUCache<SourceId, number>({ max: NEIGHBOURS_MAX_COUNT })
  const add = (kind: SourceKind, more: KindCount): void => {
    const { bytes, nars } = byKind.get(kind) ?? { bytes: 0, nars: 0 }
    byKind.set(kind, { bytes: bytes + more.bytes, nars: nars + more.nars })
  }

  return {
    came(bySource, isWhole) {
      const sums = new Map<SourceKind, number>()
      for (const [id, bytes] of bySource) {
        const kind = sourceKind(id)
        sums.set(kind, (sums.get(kind) ?? 0) + bytes)
        if (kind !== 'neighbour') continue
        const name = neighbourOf(id)
        byNeighbour.set(name, (byNeighbour.get(name) ?? 0) + bytes)
      }
      const [most] = [...sums].sort(([, a], [, b]) => b - a)
      if (isWhole && most !== undefined) add(most[0], { bytes: 0, nars: 1 })
      sums.delete('spool')
      for (const [kind, bytes] of sums) add(kind, { bytes, nars: 0 })
    },
    wentOut: (from, bytes, isWhole) => add(from, { bytes, nars: isWhole ? 1 : 0 }),
    total: () => ({ byKind: new Map(byKind), byNeighbour: new Map(byNeighbour.entries()) }),
  }
}
