/**
 * Profile `unixfs-v1-2025` of IPIP-499 for one file: raw leaves of 1 MiB, balanced, at most 1,024 links a node.
 * The shape of a NAR's DAG is a pure function of its size: every number here can be known before a byte is fetched.
 *
 * Depth is counted from below, 0 is a leaf. All leaves are equally far from the root, so a node of depth d holds up to
 * 1 MiB × 1,024^d, all its children but the last are full, and the last holds the rest.
 */
import { NAR_MAX_BYTES } from '../limits.ts'

export const LEAF_BYTES = 1_048_576
export const MAX_LINKS = 1024

/** One for an empty file, which is one empty leaf. @throws RangeError */
export function leafCount(narSize: number): number {
  checkSize(narSize)
  return Math.max(1, Math.ceil(narSize / LEAF_BYTES))
}

/** Bytes of leaf `index`, counted from 0. @throws RangeError when there is no such leaf */
export function leafSize(narSize: number, index: number): number {
  const count = leafCount(narSize)
  if (!Number.isInteger(index) || index < 0 || index >= count) {
    throw new RangeError(`expected a leaf number from 0 to ${count - 1}, got ${index}`)
  }
  return Math.min(LEAF_BYTES, narSize - index * LEAF_BYTES)
}

/** Levels above the leaves: 0 while one leaf holds the whole. @throws RangeError */
export function treeDepth(narSize: number): number {
  checkSize(narSize)
  let depth = 0
  while (capacity(depth) < narSize) depth++
  return depth
}

/** Most bytes a node of this depth holds. */
function capacity(depth: number): number {
  return LEAF_BYTES * MAX_LINKS ** depth
}

/** Links of the node of `depth` (at least 1) that holds `size` bytes. */
export function childCount(size: number, depth: number): number {
  return Math.ceil(size / capacity(depth - 1))
}

/** Bytes below link `index` of that node. */
export function childSize(size: number, depth: number, index: number): number {
  const full = capacity(depth - 1)
  return Math.min(full, size - index * full)
}

function checkSize(narSize: number): void {
  if (!Number.isSafeInteger(narSize) || narSize < 0 || narSize > NAR_MAX_BYTES) {
    throw new RangeError(`expected a NAR size from 0 to ${NAR_MAX_BYTES} bytes, got ${narSize}`)
  }
}
