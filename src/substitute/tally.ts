import { LRUCache } from 'lru-cache'
import { NEIGHBOURS_MAX_COUNT } from '../limits.ts'
import { isNeighbour, isUpstream, neighbourOf } from '../source.ts'
import type { SourceId } from '../source.ts'

/** Bytes of NARs as they are, not as they were packed on the way. */
export interface FetchedBytes {
  readonly all: number
  readonly fromUpstreams: number
  readonly fromNeighbours: number
  /** Blocks and whole NARs together, by the neighbour's id as a source of blocks. */
  readonly byNeighbour: ReadonlyMap<SourceId, number>
}

/** Who gave the bytes that NARs were put together from, since this process began. */
export interface Tally {
  /** Of one NAR: proved, or kept for when it goes on. A part that was kept before does not count again. */
  add(bySource: ReadonlyMap<SourceId, number>): void
  total(): FetchedBytes
}

export function createTally(): Tally {
  let all = 0
  let fromUpstreams = 0
  let fromNeighbours = 0
  const byNeighbour = new LRUCache<SourceId, number>({ max: NEIGHBOURS_MAX_COUNT })
  return {
    add(bySource) {
      for (const [id, bytes] of bySource) {
        if (id === 'spool') continue
        all += bytes
        if (isUpstream(id)) fromUpstreams += bytes
        if (!isNeighbour(id)) continue
        fromNeighbours += bytes
        const one = neighbourOf(id)
        byNeighbour.set(one, (byNeighbour.get(one) ?? 0) + bytes)
      }
    },
    total: () => ({ all, fromUpstreams, fromNeighbours, byNeighbour: new Map(byNeighbour.entries()) }),
  }
}
