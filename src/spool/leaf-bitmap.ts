import { LEAF_BYTES, leafCount, leafSize } from '../dag/profile.ts'
import type { ByteRange } from '../source.ts'

/** Which leaves of a NAR are on disk, and how far they reach from 0 without a gap. Pure. */
export interface LeafBitmap {
  /** Bytes from 0 without a gap; may end inside a leaf. */
  readonly prefix: number
  /** Bytes of whole leaves. */
  readonly bytes: number
  has(index: number): boolean
  /** The parts of the range that are neither below `prefix` nor in a leaf that is there, in order, joined. */
  missing(start: number, end: number): ByteRange[]
  setLeaf(index: number): void
  /** Bytes `prefix` to `end` have been written. */
  setPrefix(end: number): void
  /** One bit a leaf, lowest bit first, as stored. */
  snapshot(): Uint8Array
}

/** @param stored a snapshot to go on from; leaves that reach past `fileSize` are left out of it */
export function createLeafBitmap(
  narSize: number,
  stored?: { bits: Uint8Array; fileSize: number },
): LeafBitmap {
  const count = leafCount(narSize)
  const bits = new Uint8Array(Math.ceil(count / 8))
  let prefix = 0
  let bytes = 0

  const has = (index: number): boolean => ((bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
  const set = (index: number): void => {
    if (has(index)) return
    bits[index >>> 3] = (bits[index >>> 3] ?? 0) | (1 << (index & 7))
    bytes += leafSize(narSize, index)
  }
  const advance = (): void => {
    for (let index = Math.floor(prefix / LEAF_BYTES); index < count && has(index); index++) {
      prefix = Math.min((index + 1) * LEAF_BYTES, narSize)
    }
  }

  const { bits: storedBits = bits, fileSize = 0 } = stored ?? {}
  for (let index = 0; index < count && index * LEAF_BYTES < fileSize; index++) {
    const isSet = ((storedBits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
    if (isSet && index * LEAF_BYTES + leafSize(narSize, index) <= fileSize) set(index)
  }
  advance()

  return {
    get prefix() {
      return prefix
    },
    get bytes() {
      return bytes
    },
    has,
    missing(start, end) {
      const gaps: ByteRange[] = []
      for (let at = Math.max(start, prefix); at < end;) {
        const index = Math.floor(at / LEAF_BYTES)
        const next = Math.min((index + 1) * LEAF_BYTES, end)
        const last = gaps.at(-1)
        if (!has(index)) {
          if (last?.end === at) last.end = next
          else gaps.push({ start: at, end: next })
        }
        at = next
      }
      return gaps
    },
    setLeaf(index) {
      set(index)
      advance()
    },
    setPrefix(end) {
      const from = Math.floor(prefix / LEAF_BYTES)
      if (end > prefix) prefix = end
      for (
        let index = from;
        index < count && index * LEAF_BYTES + leafSize(narSize, index) <= prefix;
        index++
      ) {
        set(index)
      }
      advance()
    },
    snapshot: () => bits.slice(),
  }
}
