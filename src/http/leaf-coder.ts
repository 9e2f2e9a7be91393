import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { constants, zstdCompress } from 'node:zlib'
import { LRUCache } from 'lru-cache'
import type { CID } from 'multiformats/cid'
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
import type { LentBlock } from '../spool/local-blocks.ts'
import { dczBody, isPlainDictionary } from '../swarm/dcz.ts'
import { createSlots } from '../upstream/slots.ts'

/**
 * Leaves in zstd for those whose link is slower than the coder (docs/adr/019), where it is smaller as the difference from a
 * leaf that they have. Each coded leaf is one frame that tells its size.
 */
export interface LeafCoder {
  /** The coded leaf, when it lies ready. @param dictionary CID of the leaf that the asker has */
  ready(cid: string, dictionary?: string): CodedLeaf | undefined
  /**
   * Undefined when it is to go out as it is: it does not get smaller, or its turn would come later than the link could have
   * carried it raw; that is said at once. The bytes are not read any more when the promise is settled.
   */
  code(leaf: CodableLeaf, options: CallOptions): Promise<CodedLeaf | undefined>
}

export interface CodedLeaf {
  /** A content coding. */
  readonly coding: 'zstd' | 'dcz'
  readonly bytes: Uint8Array
}

export interface CodableLeaf {
  readonly cid: string
  readonly bytes: Uint8Array
  /** Who asks: no peer may have all of the coders. */
  readonly peer: string
  /** What its link carries, as the peer says; undefined when it does not know. */
  readonly linkBytesPerS: number | undefined
  /** A leaf that the asker has, and may have from here. */
  readonly dictionary?: LeafDictionary | undefined
}

export interface LeafDictionary {
  readonly cid: CID
  /** Its bytes, hashed. */
  lend(options: CallOptions): Promise<LentBlock | undefined>
}

const compress = promisify(zstdCompress)
/** Levels above gain 2 % for a third of the pace; level 1 loses 3 %, and all that a dictionary gives [baselines]. */
const LEVEL = 3
/** Weight of the newest measurement. */
const NEWEST = 0.2

export function createLeafCoder({
  clock = () => performance.now(),
}: { clock?: () => number } = {}): LeafCoder {
  // The pool has four threads, and the disk is read in it too.
  const coders = Math.max(1, Math.min(CODERS_MAX_COUNT, availableParallelism() >> 1))
  const slots = createSlots(coders)
  /** By leaf, or leaf and dictionary. Without bytes: what does not get smaller, or not by this dictionary. */
  const known = new LRUCache<string, { readonly coded: CodedLeaf | undefined }>({
    maxSize: CODED_LEAVES_MAX_BYTES,
    sizeCalculation: ({ coded }) => CODED_LEAVES_ENTRY_BYTES + (coded?.bytes.length ?? 0),
  })
  const underWay = new Map<string, Promise<CodedLeaf | undefined>>()
  /** Leaves under way, by peer. */
  const asked = new Map<string, number>()
  let averageMs = CODERS_START_MS
  let measuredAt = -Infinity

  const pays = ({ bytes, linkBytesPerS, dictionary }: CodableLeaf, own: number): boolean => {
    if (own >= CODERS_PEER_LEAVES_COUNT || underWay.size >= CODERS_LEAVES_COUNT) return false
    // A machine that was busy a minute ago may be idle now, and is only measured when it is tried.
    const leafMs = clock() - measuredAt > CODERS_PACE_MAX_AGE_MS ? CODERS_START_MS : averageMs
    // Raw, those of this peer would wait for one another too: on the link. One that differences alone came over stays
    // unknown, as they are too short to measure it.
    const inTurn = linkBytesPerS === undefined && dictionary === undefined ? 1 : own + 1
    const leafOnLinkMs = linkBytesPerS === undefined ? CODERS_WAIT_MS : (bytes.length * 1000) / linkBytesPerS
    const rawMs = inTurn * leafOnLinkMs
    return ((underWay.size + 1) * leafMs) / coders <= rawMs
  }

  const codePlain = async ({ cid, bytes }: CodableLeaf): Promise<CodedLeaf | undefined> => {
    const coded = await encode(bytes)
    // A copy of its own size: a short one is a view of a whole piece.
    const worth = isWorth(coded, bytes)
      ? { coding: 'zstd' as const, bytes: new Uint8Array(coded) }
      : undefined
    known.set(cid, { coded: worth })
    return worth
  }

  /** Not compared with a plain coding that is still to be made: of an older leaf that does not help zstd makes no use. */
  const codeDifference = async (
    { cid, bytes }: CodableLeaf,
    dictionary: LeafDictionary,
    options: CallOptions,
  ): Promise<CodedLeaf | undefined> => {
    // Others may wait for it too, who are not gone with this asker.
    const lent = await dictionary.lend(options).catch(() => undefined)
    if (lent === undefined) return undefined
    let difference: CodedLeaf | undefined
    try {
      if (isPlainDictionary(lent.bytes)) {
        const frame = await encode(bytes, lent.bytes)
        const body = dczBody(dictionary.cid.multihash.digest, frame)
        const plain = known.peek(cid)?.coded?.bytes ?? bytes
        if (isWorth(body, bytes) && body.length < plain.length) difference = { coding: 'dcz', bytes: body }
      }
    } finally {
      lent.release()
    }
    known.set(keyOf(cid, dictionary.cid.toString()), { coded: difference })
    return difference
  }

  /** In a slot. @returns undefined when its turn did not come */
  const run = async (
    work: () => Promise<CodedLeaf | undefined>,
    options: CallOptions,
  ): Promise<CodedLeaf | undefined> => {
    try {
      await slots.take(options)
    } catch {
      return undefined
    }
    const begun = clock()
    try {
      return await work()
    } finally {
      slots.free()
      measuredAt = clock()
      averageMs += NEWEST * (measuredAt - begun - averageMs)
    }
  }

  /** Once for all who ask meanwhile, and only when it pays. */
  const once = async (
    key: string,
    leaf: CodableLeaf,
    work: () => Promise<CodedLeaf | undefined>,
    options: CallOptions,
  ): Promise<CodedLeaf | undefined> => {
    const same = underWay.get(key)
    if (same !== undefined) return same
    const { peer } = leaf
    const own = asked.get(peer) ?? 0
    if (!pays(leaf, own)) return undefined
    asked.set(peer, own + 1)
    const running = run(work, options)
    underWay.set(key, running)
    try {
      return await running
    } finally {
      underWay.delete(key)
      const left = (asked.get(peer) ?? 1) - 1
      if (left > 0) asked.set(peer, left)
      else asked.delete(peer)
    }
  }

  return {
    ready(cid, dictionary) {
      if (dictionary !== undefined) {
        const difference = known.get(keyOf(cid, dictionary))
        // A smaller form may still be made.
        if (difference === undefined) return undefined
        if (difference.coded !== undefined) return difference.coded
      }
      return known.get(cid)?.coded
    },

    async code(leaf, options) {
      const { cid, bytes, dictionary } = leaf
      if (bytes.length < CODED_LEAF_MIN_BYTES) return undefined
      if (dictionary !== undefined) {
        const key = keyOf(cid, dictionary.cid.toString())
        const found = known.get(key)
        const difference =
          found === undefined
            ? await once(key, leaf, () => codeDifference(leaf, dictionary, options), options)
            : found.coded
        if (difference !== undefined) return difference
      }
      const found = known.get(cid)
      if (found !== undefined) return found.coded
      return once(cid, leaf, () => codePlain(leaf), options)
    },
  }
}

function keyOf(cid: string, dictionary: string): string {
  return `${cid} ${dictionary}`
}

function isWorth(coded: Uint8Array, bytes: Uint8Array): boolean {
  return coded.length <= bytes.length * CODED_LEAF_WORTH
}

function encode(bytes: Uint8Array, dictionary?: Uint8Array): Promise<Uint8Array> {
  return compress(bytes, {
    chunkSize: CODED_PIECE_BYTES,
    // One size known from the first byte of the frame on: the decoder needs no window beside its output.
    pledgedSrcSize: bytes.length,
    params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
    ...(dictionary === undefined ? {} : { dictionary }),
  })
}
