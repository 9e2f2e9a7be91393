import { createHash } from 'node:crypto'
import type { CID } from 'multiformats/cid'
import { narHashDigest, narHashFromDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { DIGEST_BYTES, rawCid } from './cid.ts'
import { LEAF_BYTES } from './profile.ts'
import { createTreeBuilder } from './tree.ts'
import type { DagNode } from './tree.ts'

/** All that is to be known about a NAR's DAG, but its bytes. */
export interface NarPlan {
  readonly narHash: NarHash
  /** Bytes. */
  readonly narSize: number
  readonly root: CID
  /** sha256 of each leaf, 32 bytes a leaf, in order. */
  readonly leaves: Uint8Array
  /** Children before parents, the root last; a node that occurs many times is here once. Empty up to 1 MiB. */
  readonly nodes: readonly DagNode[]
}

export interface Planner {
  /** The next bytes, any number of them. They are hashed before it returns, and neither kept nor copied. */
  update(bytes: Uint8Array): void
  /**
   * As `update`, with a whole leaf whose digest was checked against these very bytes: it is hashed for the whole alone.
   * After one that is shorter than 1 MiB, which is the last, nothing may follow.
   *
   * @throws RangeError when the bytes before do not end with a leaf
   */
  addLeaf(bytes: Uint8Array, digest: Uint8Array): void
  /** Once, after the last byte. */
  finish(): NarPlan
}

const FIRST_LEAVES_COUNT = 64
/** Small enough to be still in a core's cache when the second hash comes to it: a quarter faster than 1 MiB at once. */
const HASHED_AT_ONCE_BYTES = 65_536

/**
 * NarHash and DAG of a stream of bytes in one pass: each byte goes through sha256 twice, for the whole and for its leaf.
 * But the first leaf does not: until it is full, the hash of the whole is its hash, and a NAR of at most 1 MiB is one
 * raw block whose digest is its NarHash (design 6).
 */
export function createPlanner(): Planner {
  const whole = createHash('sha256')
  const tree = createTreeBuilder()
  let leaves = new Uint8Array(FIRST_LEAVES_COUNT * DIGEST_BYTES)
  let leafTotal = 0
  let narSize = 0
  /** The open leaf, from the second on; undefined between two leaves. */
  let leaf: ReturnType<typeof createHash> | undefined
  /** Bytes in the open leaf, full or not. */
  let filled = 0

  function closeLeaf(digest: Uint8Array): void {
    if ((leafTotal + 1) * DIGEST_BYTES > leaves.length) {
      const larger = new Uint8Array(leaves.length * 2)
      larger.set(leaves)
      leaves = larger
    }
    leaves.set(digest, leafTotal * DIGEST_BYTES)
    leafTotal++
    tree.addLeaf(digest, filled)
    leaf = undefined
    filled = 0
  }

  function update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      // A full first leaf is closed only now: had the NAR ended with it, its digest would be the NarHash.
      if (filled === LEAF_BYTES) closeLeaf(whole.copy().digest())
      const piece = bytes.subarray(at, at + Math.min(HASHED_AT_ONCE_BYTES, LEAF_BYTES - filled))
      at += piece.length
      filled += piece.length
      narSize += piece.length
      whole.update(piece)
      if (leafTotal === 0) continue
      leaf ??= createHash('sha256')
      leaf.update(piece)
      if (filled === LEAF_BYTES) closeLeaf(leaf.digest())
    }
  }

  return {
    update,

    addLeaf(bytes, digest) {
      if (leafTotal === 0 && filled === 0) {
        update(bytes)
        return
      }
      if (filled === LEAF_BYTES) closeLeaf(whole.copy().digest())
      if (filled !== 0) throw new RangeError(`a leaf cannot follow ${filled} bytes of another one`)
      whole.update(bytes)
      narSize += bytes.length
      filled = bytes.length
      closeLeaf(digest)
    },

    finish() {
      const digest = whole.digest()
      if (leafTotal === 0) closeLeaf(digest)
      else if (leaf !== undefined) closeLeaf(leaf.digest())
      const { root, nodes } = tree.finish()
      return {
        narHash: narHashFromDigest(digest),
        narSize,
        root,
        leaves: leaves.slice(0, leafTotal * DIGEST_BYTES),
        nodes,
      }
    },
  }
}

/** Of a NAR of at most 1 MiB: its NarHash is all there is to know, so no byte of it is read. */
export function planSmallNar(narHash: NarHash, narSize: number): NarPlan {
  if (narSize > LEAF_BYTES) throw new RangeError(`expected a NAR of one leaf, got one of ${narSize} bytes`)
  const digest = narHashDigest(narHash)
  return { narHash, narSize, root: rawCid(digest), leaves: digest, nodes: [] }
}

/** The plan of bytes that are there to be read, whole and in order. @throws whatever the chunks throw */
export async function planNar(chunks: AsyncIterable<Uint8Array>): Promise<NarPlan> {
  const planner = createPlanner()
  for await (const chunk of chunks) planner.update(chunk)
  return planner.finish()
}
