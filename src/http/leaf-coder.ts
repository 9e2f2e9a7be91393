import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { constants, zstdCompress } from 'node:zlib'
import { LRUCache } from 'lru-cache'
import {
  CODED_LEAF_MIN_BYTES,
  CODED_LEAF_WORTH,
  CODED_LEAVES_ENTRY_BYTES,
  CODED_LEAVES_MAX_BYTES,
  CODED_PIECE_BYTES,
  CODERS_LEAVES_COUNT,
  CODERS_MAX_COUNT,
  CODERS_PACE_MAX_AGE_MS,
  CODERS_PEER_LEAVES_COUNT,
  CODERS_START_MS,
  CODERS_WAIT_MS,
} from '../limits.ts'
import type { CallOptions } from '../source.ts'
import { createSlots } from '../upstream/slots.ts'

/** Leaves in zstd for those whose link is slower than the coder (docs/adr/019). Each coded leaf is one frame that tells its size. */
export interface LeafCoder {
  /** The coded leaf, when it lies ready. */
  ready(cid: string): Uint8Array | undefined
  /**
   * Undefined when it is to go out as it is: it does not get smaller, or its turn would come later than the link could have
   * carried it raw; that is said at once. The bytes are not read any more when the promise is settled.
   */
  code(leaf: CodableLeaf, options: CallOptions): Promise<Uint8Array | undefined>
}

export interface CodableLeaf {
  readonly cid: string
  readonly bytes: Uint8Array
  /** Who asks: no peer may have all of the coders. */
  readonly peer: string
  /** What its link carries, as the peer says; undefined when it does not know. */
  readonly linkBytesPerS: number | undefined
}

const compress = promisify(zstdCompress)
/** Levels above gain 2 % for a third of the pace; level 1 loses 3 % [baselines]. */
const LEVEL = 3
/** Weight of the newest measurement. */
const NEWEST = 0.2

export function createLeafCoder({
  clock = () => performance.now(),
}: { clock?: () => number } = {}): LeafCoder {
  // The pool has four threads, and the disk is read in it too.
  const coders = Math.max(1, Math.min(CODERS_MAX_COUNT, availableParallelism() >> 1))
  const slots = createSlots(coders)
  /** Without bytes: a leaf that does not get smaller. */
  const known = new LRUCache<string, { readonly coded: Uint8Array | undefined }>({
    maxSize: CODED_LEAVES_MAX_BYTES,
    sizeCalculation: ({ coded }) => CODED_LEAVES_ENTRY_BYTES + (coded?.length ?? 0),
  })
  const underWay = new Map<string, Promise<Uint8Array | undefined>>()
  /** Leaves under way, by peer. */
  const asked = new Map<string, number>()
  let averageMs = CODERS_START_MS
  let measuredAt = -Infinity

  const pays = ({ bytes, linkBytesPerS }: CodableLeaf, own: number): boolean => {
    if (own >= CODERS_PEER_LEAVES_COUNT || underWay.size >= CODERS_LEAVES_COUNT) return false
    // A machine that was busy a minute ago may be idle now, and is only measured when it is tried.
    const leafMs = clock() - measuredAt > CODERS_PACE_MAX_AGE_MS ? CODERS_START_MS : averageMs
    // Raw, those of this peer would wait for one another too: on the link.
    const rawMs =
      linkBytesPerS === undefined ? CODERS_WAIT_MS : ((own + 1) * bytes.length * 1000) / linkBytesPerS
    return ((underWay.size + 1) * leafMs) / coders <= rawMs
  }

  const run = async ({ cid, bytes }: CodableLeaf, options: CallOptions): Promise<Uint8Array | undefined> => {
    try {
      await slots.take(options)
    } catch {
      return undefined
    }
    const begun = clock()
    try {
      const coded = await compress(bytes, {
        chunkSize: CODED_PIECE_BYTES,
        // One size known from the first byte of the frame on: the decoder needs no window beside its output.
        pledgedSrcSize: bytes.length,
        params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
      })
      // A copy of its own size: a short one is a view of a whole piece.
      const worth = coded.length <= bytes.length * CODED_LEAF_WORTH ? new Uint8Array(coded) : undefined
      known.set(cid, { coded: worth })
      return worth
    } finally {
      slots.free()
      measuredAt = clock()
      averageMs += NEWEST * (measuredAt - begun - averageMs)
    }
  }

  return {
    ready: (cid) => known.get(cid)?.coded,

    async code(leaf, options) {
      const { cid, bytes, peer } = leaf
      if (bytes.length < CODED_LEAF_MIN_BYTES) return undefined
      const found = known.get(cid)
      if (found !== undefined) return found.coded
      const same = underWay.get(cid)
      if (same !== undefined) return same
      const own = asked.get(peer) ?? 0
      if (!pays(leaf, own)) return undefined
      asked.set(peer, own + 1)
      const running = run(leaf, options)
      underWay.set(cid, running)
      try {
        return await running
      } finally {
        underWay.delete(cid)
        const left = (asked.get(peer) ?? 1) - 1
        if (left > 0) asked.set(peer, left)
        else asked.delete(peer)
      }
    },
  }
}
