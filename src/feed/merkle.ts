/** RFC 6962, section 2.1: the Merkle tree hash, its leaf and node prefixes, kept as a compact range. */
import { hash } from 'node:crypto'

const LEAF_PREFIX = Uint8Array.of(0)
const NODE_PREFIX = Uint8Array.of(1)

/** C2SP tlog-tiles: a tile is the bottom row of a perfect subtree of this height. */
const TILE_HEIGHT = 8
export const TILE_WIDTH = 2 ** TILE_HEIGHT

export const HASH_BYTES = 32

export function leafHash(entry: Uint8Array): Uint8Array {
  return hash('sha256', Buffer.concat([LEAF_PREFIX, entry]), 'buffer')
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hash('sha256', Buffer.concat([NODE_PREFIX, left, right]), 'buffer')
}

/**
 * The roots of the perfect subtrees that a log of `size` leaves falls into, largest first: at most 53 hashes, from
 * which the log can be grown and its root told at any moment.
 */
export interface CompactRange {
  readonly size: number
  readonly hashes: readonly Uint8Array[]
  append(leaf: Uint8Array): void
  /** A perfect subtree of 2^height leaves. @throws RangeError when the range's size is no multiple of that */
  appendSubtree(root: Uint8Array, height: number): void
  root(): Uint8Array
}

/** The hash of the `n`-th full tile of `level`: what stands as hash `n` of the level above. */
export type OnFullTile = (level: number, n: number, root: Uint8Array) => void

/**
 * @param start where to go on; its hashes are as many as the size has one bits
 * @throws RangeError
 */
export function createCompactRange(
  start: { size: number; hashes: readonly Uint8Array[] } = { size: 0, hashes: [] },
  onFullTile?: OnFullTile,
): CompactRange {
  let size = start.size
  const hashes = [...start.hashes]
  if (hashes.length !== oneBits(size) || hashes.some((h) => h.length !== HASH_BYTES)) {
    throw new RangeError(
      `compact range of size ${size}: expected ${oneBits(size)} hashes of ${HASH_BYTES} bytes`,
    )
  }

  function appendSubtree(root: Uint8Array, fromHeight: number): void {
    const leaves = 2 ** fromHeight
    if (size % leaves !== 0)
      throw new RangeError(`a subtree of ${leaves} leaves cannot follow ${size} leaves`)
    const end = size + leaves
    let height = fromHeight
    let top = root
    // Divisions instead of shifts: sizes may pass 2^31.
    for (let rest = size / leaves; rest % 2 === 1; rest = (rest - 1) / 2) {
      const left = hashes.pop()
      if (left === undefined) throw new RangeError('compact range: fewer hashes than its size says')
      top = nodeHash(left, top)
      height += 1
      if (height % TILE_HEIGHT === 0) onFullTile?.(height / TILE_HEIGHT - 1, end / 2 ** height - 1, top)
    }
    hashes.push(top)
    size = end
  }

  return {
    get size() {
      return size
    },
    get hashes() {
      return hashes
    },
    append: (leaf) => appendSubtree(leaf, 0),
    appendSubtree,
    root() {
      const last = hashes.at(-1)
      if (last === undefined) return hash('sha256', new Uint8Array(), 'buffer')
      return hashes.slice(0, -1).reduceRight((right, left) => nodeHash(left, right), last)
    },
  }
}

function oneBits(size: number): number {
  let count = 0
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2
  return count
}
