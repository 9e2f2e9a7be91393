/**
 * Interior nodes as Kubo writes them: a dag-pb node (Links first, then Data, and an empty Name in each link) whose Data
 * is a UnixFS file with nothing but its sizes. Of the bytes of such a node only the digests of its children are not
 * given by its shape, so encoding takes the shape and the digests, and the reader compares whole nodes.
 *
 * Ours, since the npm encoder is wrong from 2 to 4 GiB [security 0.4].
 * Formats: https://ipld.io/specs/codecs/dag-pb/spec/ and https://specs.ipfs.tech/unixfs/
 */
import { CID_BYTES, DAG_PB_CODE, DIGEST_BYTES, RAW_CODE } from './cid.ts'
import { childCount, childSize } from './profile.ts'
import { varintBytes, writeVarint } from './varint.ts'

/** UnixFS Data.DataType: File. */
export const UNIXFS_FILE = 2
/** Tags are (field number << 3) | wire type; 0 is a varint, 2 is bytes with their length. */
const PB_NODE_DATA = 0x0a
const PB_NODE_LINK = 0x12
const PB_LINK_HASH = 0x0a
const PB_LINK_NAME = 0x12
const PB_LINK_TSIZE = 0x18
const UNIXFS_TYPE = 0x08
const UNIXFS_FILESIZE = 0x18
const UNIXFS_BLOCKSIZE = 0x20

/**
 * The node of `depth` (at least 1) that holds `size` bytes.
 *
 * @param digests of its children in order, 32 bytes each; exactly as many as the shape has
 */
export function encodeNode(size: number, depth: number, digests: Uint8Array): Uint8Array {
  const children = childCount(size, depth)
  if (digests.length !== children * DIGEST_BYTES) {
    throw new RangeError(
      `expected ${children} digests for ${size} bytes, got ${digests.length / DIGEST_BYTES}`,
    )
  }
  const bytes = new Uint8Array(nodeBytes(size, depth))
  const codec = depth === 1 ? RAW_CODE : DAG_PB_CODE
  let at = 0
  for (let i = 0; i < children; i++) {
    const tsize = cumulativeSize(childSize(size, depth, i), depth - 1)
    bytes[at++] = PB_NODE_LINK
    at = writeVarint(bytes, at, linkBytes(tsize))
    bytes.set([PB_LINK_HASH, CID_BYTES, 1, codec, 0x12, DIGEST_BYTES], at)
    bytes.set(digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES), at + 6)
    at += 2 + CID_BYTES
    bytes.set([PB_LINK_NAME, 0, PB_LINK_TSIZE], at)
    at = writeVarint(bytes, at + 3, tsize)
  }
  bytes[at++] = PB_NODE_DATA
  at = writeVarint(bytes, at, unixfsBytes(size, depth))
  bytes.set([UNIXFS_TYPE, UNIXFS_FILE, UNIXFS_FILESIZE], at)
  at = writeVarint(bytes, at + 3, size)
  for (let i = 0; i < children; i++) {
    bytes[at++] = UNIXFS_BLOCKSIZE
    at = writeVarint(bytes, at, childSize(size, depth, i))
  }
  return bytes
}

/** Tsize of a link: the bytes of its block and of all blocks below, as often as they occur. */
export function cumulativeSize(size: number, depth: number): number {
  if (depth === 0) return size
  let total = nodeBytes(size, depth)
  for (const [count, child] of childRuns(size, depth)) total += count * cumulativeSize(child, depth - 1)
  return total
}

/** Length of the node that {@link encodeNode} makes. */
function nodeBytes(size: number, depth: number): number {
  const data = unixfsBytes(size, depth)
  let total = 1 + varintBytes(data) + data
  for (const [count, child] of childRuns(size, depth)) {
    const link = linkBytes(cumulativeSize(child, depth - 1))
    total += count * (1 + varintBytes(link) + link)
  }
  return total
}

function linkBytes(tsize: number): number {
  return 2 + CID_BYTES + 2 + 1 + varintBytes(tsize)
}

function unixfsBytes(size: number, depth: number): number {
  let total = 2 + 1 + varintBytes(size)
  for (const [count, child] of childRuns(size, depth)) total += count * (1 + varintBytes(child))
  return total
}

/** All children but the last are of one size: [how many, size] twice at most, so that no sum takes a loop over 1,024. */
function childRuns(size: number, depth: number): [count: number, size: number][] {
  const last = childCount(size, depth) - 1
  return [
    [last, childSize(size, depth, 0)],
    [1, childSize(size, depth, last)],
  ]
}
