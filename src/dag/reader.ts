/**
 * Strict reader of a NAR's DAG. NarSize is signed and known before the first block is fetched, and the tree's shape is a
 * pure function of it, so a node is right or it is refused: there is no budget to spend, no cycle to look for (hashes
 * exclude them) and no depth but the one that NarSize gives. What a lenient reader can be made to do with zero-sized
 * links, overlong leaves and lying sizes is in security 0.5 and 3 F.
 */
import { decode } from '@ipld/dag-pb'
import type { PBLink, PBNode } from '@ipld/dag-pb'
import type { CID } from 'multiformats/cid'
import { DAG_NODE_MAX_BYTES } from '../limits.ts'
import { blockMatches, checkCid, CidError, DAG_PB_CODE, DIGEST_BYTES, RAW_CODE } from './cid.ts'
import { cumulativeSize, encodeNode } from './node-encoder.ts'
import { childCount, childSize, treeDepth } from './profile.ts'
import { decodeUnixfsFile, UnixfsError } from './unixfs.ts'
import type { UnixfsFile, UnixfsReason } from './unixfs.ts'

/** Where a block of a NAR's DAG stands, and how many of the NAR's bytes are below it. */
export interface DagLink {
  readonly cid: CID
  /** First byte of the NAR that is below. */
  readonly offset: number
  /** Bytes of the NAR that are below; of a leaf, its exact length. */
  readonly size: number
  /** Levels below: 0 is a leaf, whose block is its bytes. */
  readonly depth: number
}

export type DagReason =
  | UnixfsReason
  /** The bytes are not the block: the only reason that accuses who gave them. */
  | 'digest'
  /** A leaf longer or shorter than its place in the NAR demands. */
  | 'leaf-size'
  /** A node above DAG_NODE_MAX_BYTES. */
  | 'too-large'
  /** Not a dag-pb node: fields out of order or twice, unknown, cut off. */
  | 'dag-pb'
  /** A link's CID is not one of ours: identity, CIDv0, another or a truncated hash, another codec. */
  | 'cid'
  /** raw where NarSize demands an interior node, or the other way round. */
  | 'codec'
  | 'link-count'
  | 'link-name'
  | 'tsize'
  | 'file-size'
  | 'block-sizes'
  /** Says the right thing in other bytes than Kubo's: Data before Links, overlong varints, sizes out of order. */
  | 'not-canonical'

/**
 * A block that cannot stand where it stands. But for reason `digest`, it accuses who published the root: the block is
 * what its CID says, and no source could have given a better one.
 */
export class DagError extends Error {
  override readonly name = 'DagError'
  readonly reason: DagReason
  constructor(reason: DagReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

/**
 * @param narSize as signed, 0 to NAR_MAX_BYTES
 * @throws CidError; RangeError for the size; DagError (`codec`) when this root cannot be that of so large a NAR
 */
export function rootLink(root: CID, narSize: number): DagLink {
  const depth = treeDepth(narSize)
  const expected = codecOf(depth)
  if (checkCid(root).code !== expected) {
    throw new DagError(
      'codec',
      `the root of a NAR of ${narSize} bytes is of codec ${codecName(expected)}, got ${codecName(root.code)} (${root.toString()})`,
    )
  }
  return { cid: root, offset: 0, size: narSize, depth }
}

/**
 * That these bytes are the leaf. Its digest first: only with the right digest does a wrong length accuse the publisher.
 *
 * @param digest their sha256, when they were hashed already
 * @throws DagError (`digest`, `leaf-size`); RangeError for an interior node
 */
export function checkLeaf(link: DagLink, bytes: Uint8Array, digest?: Uint8Array): void {
  const where = `leaf ${link.cid.toString()} at NAR byte ${link.offset}`
  if (link.depth !== 0) throw new RangeError(`${where} is an interior node`)
  checkDigest(link, bytes, where, digest)
  if (bytes.length !== link.size) {
    throw new DagError('leaf-size', `${where}: expected ${link.size} bytes, got ${bytes.length}`)
  }
}

/**
 * The children of an interior node in order, tiling its bytes.
 *
 * @throws DagError; RangeError for a leaf
 */
export function readNode(link: DagLink, bytes: Uint8Array): DagLink[] {
  const where = `node ${link.cid.toString()} at NAR byte ${link.offset}`
  if (link.depth === 0) throw new RangeError(`${where} is a leaf and has no links`)
  checkDigest(link, bytes, where)
  if (bytes.length > DAG_NODE_MAX_BYTES) {
    throw new DagError(
      'too-large',
      `${where}: expected at most ${DAG_NODE_MAX_BYTES} bytes, got ${bytes.length}`,
    )
  }
  const node = decodeNode(bytes, where)
  checkSizes(link, node, where)

  const count = childCount(link.size, link.depth)
  if (node.Links.length !== count) {
    throw new DagError('link-count', `${where}: expected ${count} links, got ${node.Links.length}`)
  }
  const digests = new Uint8Array(count * DIGEST_BYTES)
  const children: DagLink[] = []
  let offset = link.offset
  for (const [i, pbLink] of node.Links.entries()) {
    const child = {
      cid: pbLink.Hash,
      offset,
      size: childSize(link.size, link.depth, i),
      depth: link.depth - 1,
    }
    checkLink(pbLink, child, `${where}, link ${i}`)
    digests.set(pbLink.Hash.multihash.digest, i * DIGEST_BYTES)
    children.push(child)
    offset += child.size
  }

  if (Buffer.compare(bytes, encodeNode(link.size, link.depth, digests)) !== 0) {
    throw new DagError('not-canonical', `${where}: it is not encoded as the profile has it`)
  }
  return children
}

function checkDigest(link: DagLink, bytes: Uint8Array, where: string, digest?: Uint8Array): void {
  if (!blockMatches(link.cid, bytes, digest)) {
    throw new DagError('digest', `${where}: these ${bytes.length} bytes have another sha256`)
  }
}

function decodeNode(bytes: Uint8Array, where: string): PBNode {
  try {
    return decode(bytes)
  } catch (cause) {
    throw new DagError(
      'dag-pb',
      `${where}: ${cause instanceof Error ? cause.message : 'not a dag-pb node'}`,
      { cause },
    )
  }
}

function checkSizes(link: DagLink, node: PBNode, where: string): void {
  let file: UnixfsFile
  try {
    file = decodeUnixfsFile(node.Data ?? new Uint8Array())
  } catch (cause) {
    if (!(cause instanceof UnixfsError)) throw cause
    throw new DagError(cause.reason, `${where}: ${cause.message}`, { cause })
  }
  if (file.fileSize !== link.size) {
    throw new DagError('file-size', `${where}: expected a filesize of ${link.size}, got ${file.fileSize}`)
  }
  const count = childCount(link.size, link.depth)
  if (file.blockSizes.length !== count) {
    throw new DagError('block-sizes', `${where}: expected ${count} blocksizes, got ${file.blockSizes.length}`)
  }
  for (const [i, size] of file.blockSizes.entries()) {
    const expected = childSize(link.size, link.depth, i)
    if (size !== expected) {
      throw new DagError('block-sizes', `${where}: expected ${expected} as blocksize ${i}, got ${size}`)
    }
  }
}

function checkLink(pbLink: PBLink, child: DagLink, where: string): void {
  try {
    checkCid(pbLink.Hash)
  } catch (cause) {
    if (!(cause instanceof CidError)) throw cause
    throw new DagError('cid', `${where}: ${cause.message}`, { cause })
  }
  const codec = codecOf(child.depth)
  if (pbLink.Hash.code !== codec) {
    throw new DagError(
      'codec',
      `${where}: expected codec ${codecName(codec)}, got ${codecName(pbLink.Hash.code)}`,
    )
  }
  if (pbLink.Name !== '') {
    const name = pbLink.Name === undefined ? 'none' : JSON.stringify(pbLink.Name.slice(0, 80))
    throw new DagError('link-name', `${where}: expected an empty name, got ${name}`)
  }
  // Pure function of the shape as well: CIDs are all of one length, so a lie is a second CID for the same NAR.
  const tsize = cumulativeSize(child.size, child.depth)
  if (pbLink.Tsize !== tsize) {
    throw new DagError('tsize', `${where}: expected a Tsize of ${tsize}, got ${pbLink.Tsize ?? 'none'}`)
  }
}

function codecOf(depth: number): number {
  return depth === 0 ? RAW_CODE : DAG_PB_CODE
}

function codecName(code: number): string {
  return code === RAW_CODE ? 'raw' : code === DAG_PB_CODE ? 'dag-pb' : `0x${code.toString(16)}`
}
