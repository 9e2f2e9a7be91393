/** The leaves of an older NAR that is here, by their place in it: whoever has one, too, may send what differs from it. */
import type { CID } from 'multiformats/cid'
import { rawCid, sha256 } from '../dag/cid.ts'
import type { LeafBuffers } from '../dag/leaf-buffers.ts'
import { LEAF_BYTES, leafSize } from '../dag/profile.ts'
import { readNode, rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import { OLDER_LEAF_MS, OLDER_LEAVES_IN_VAIN_COUNT } from '../limits.ts'
import { narHashDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions, OldBlock } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { LocalStore } from '../store/local-store.ts'
import { abortable } from '../upstream/abortable.ts'
import type { Slots } from '../upstream/slots.ts'

export interface OlderNar {
  readonly storePath: StorePath
  readonly narHash: NarHash
  /** Bytes, more than none. */
  readonly narSize: number
  /** As the index has it; undefined when it does not know this NAR. */
  readonly root: CID | undefined
}

/** For the leaf at this byte of the wanted NAR; undefined when there is none, or it cannot be had in time. */
export type OldLeafAt = (
  offset: number,
  options: CallOptions,
) => OldBlock | undefined | Promise<OldBlock | undefined>

/** Of a NAR whose leaves the index knows. */
export function indexedLeaves(
  nar: Pick<OlderNar, 'narSize'> & { readonly root: CID },
  { index, blocks }: { index: Pick<LeafIndex, 'node'>; blocks: Pick<LocalBlocks, 'lend'> },
): OldLeafAt {
  const { root, narSize } = nar
  let isGone = false
  /** By depth, those that were read last: leaves are asked for in their order. */
  const read = new Map<number, { readonly link: DagLink; readonly children: readonly DagLink[] }>()
  const childrenOf = (link: DagLink): readonly DagLink[] | undefined => {
    const last = read.get(link.depth)
    if (last?.link.offset === link.offset) return last.children
    const node = index.node(link.cid.multihash.digest)
    if (node === undefined) return undefined
    const children = readNode(link, node.bytes)
    read.set(link.depth, { link, children })
    return children
  }
  const find = (offset: number): DagLink | undefined => {
    let link: DagLink | undefined = rootLink(root, narSize)
    while (link !== undefined && link.depth > 0) {
      link = childrenOf(link)?.findLast((child) => child.offset <= offset)
    }
    return link
  }
  return (offset) => {
    const leaf = isGone ? undefined : find(atMost(offset, narSize))
    if (leaf === undefined) return undefined
    return {
      digest: leaf.cid.multihash.digest,
      async lend(options) {
        const lent = await blocks.lend(leaf.cid, 'all', options)
        isGone ||= lent === undefined
        return lent
      },
    }
  }
}

/**
 * Of one that is in the store and not in the index, as all that was there before us: each leaf is read and hashed when it is
 * asked for, once. That stops when the store is slow, or nobody else seems to have these leaves.
 */
export function storedLeaves(
  nar: OlderNar,
  deps: {
    store: Pick<LocalStore, 'readNarInto'>
    blocks: Pick<LocalBlocks, 'lendLeaf'>
    /** For reading; both shared by all NARs. */
    slots: Slots
    buffers: LeafBuffers
  },
): OldLeafAt {
  const { storePath, narHash, narSize } = nar
  const { store, blocks, slots, buffers } = deps
  let isGone = false
  /** Hashed, with no difference from any of them since. */
  let inVain = 0
  const hashed = new Map<number, Promise<Uint8Array | undefined>>()

  const hash = async (offset: number, size: number): Promise<Uint8Array | undefined> => {
    // A single leaf has the hash of the NAR.
    if (narSize <= LEAF_BYTES) return narHashDigest(narHash)
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(new Error('the store is slow')), OLDER_LEAF_MS)
    const { signal } = late
    try {
      await slots.take({ signal })
      const buffer = buffers.take()
      const bytes = buffer.subarray(0, size)
      const range = { start: offset, end: offset + size }
      // A read that hangs hears no signal. Its buffer is not used again.
      await abortable(
        store.readNarInto(storePath, range, bytes, { signal }).finally(() => slots.free()),
        signal,
      )
      const digest = sha256(bytes)
      buffers.give(buffer)
      return digest
    } catch {
      isGone = true
      return undefined
    } finally {
      clearTimeout(timer)
    }
  }

  return async (offset, { signal }) => {
    const index = Math.floor(atMost(offset, narSize) / LEAF_BYTES)
    const start = index * LEAF_BYTES
    const size = leafSize(narSize, index)
    let hashing = hashed.get(index)
    if (hashing === undefined) {
      if (isGone || inVain >= OLDER_LEAVES_IN_VAIN_COUNT) return undefined
      inVain += 1
      hashing = hash(start, size)
      hashed.set(index, hashing)
    }
    const digest = await abortable(hashing, signal)
    if (digest === undefined || isGone) return undefined
    return {
      digest,
      async lend(options) {
        inVain = 0
        const leaf = { cid: rawCid(digest), narHash, narSize, offset: start, size, storePaths: [storePath] }
        const lent = await blocks.lendLeaf(leaf, 'all', options)
        isGone ||= lent === undefined
        return lent
      },
    }
  }
}

/** What is behind its end is most like what was its end. */
function atMost(offset: number, narSize: number): number {
  return Math.min(offset, narSize - 1)
}
