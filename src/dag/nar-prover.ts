import { createHash } from 'node:crypto'
import { narHashFromDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { DIGEST_BYTES } from './cid.ts'
import { createPlanner } from './planner.ts'
import type { NarPlan } from './planner.ts'
import { LEAF_BYTES, leafSize } from './profile.ts'
import { createTreeBuilder } from './tree.ts'

/** The NarHash of bytes as they come, and their DAG where it is known. */
export interface NarProver {
  /** The next bytes, any number of them. They are hashed before it returns, and neither kept nor copied. */
  update(bytes: Uint8Array): void
  /** As `update`, with a whole leaf, or the shorter last one, whose digest was checked against these very bytes. */
  addLeaf(bytes: Uint8Array, digest: Uint8Array): void
  /** Once, after the last byte. Without a plan, some leaf's digest is not known. */
  finish(): { readonly narHash: NarHash; readonly plan: NarPlan | undefined }
}

/**
 * @param leaves 'hashed': there is always a plan. 'given': only when it costs nothing, since each leaf was checked on its
 * way or there is but one; hashing them takes as long as the NarHash itself, while somebody waits
 */
export function createNarProver(leaves: 'hashed' | 'given'): NarProver {
  return leaves === 'hashed' ? planning() : proving()
}

function planning(): NarProver {
  const planner = createPlanner()
  return {
    update: (bytes) => planner.update(bytes),
    addLeaf: (bytes, digest) => planner.addLeaf(bytes, digest),
    finish() {
      const plan = planner.finish()
      return { narHash: plan.narHash, plan }
    },
  }
}

function proving(): NarProver {
  const whole = createHash('sha256')
  let narSize = 0
  /** Of the leaves so far; undefined once bytes came without. */
  let digests: Uint8Array[] | undefined = []

  return {
    update(bytes) {
      if (bytes.length === 0) return
      whole.update(bytes)
      narSize += bytes.length
      digests = undefined
    },
    addLeaf(bytes, digest) {
      if (narSize % LEAF_BYTES !== 0) throw new RangeError(`a leaf cannot follow ${narSize} bytes`)
      whole.update(bytes)
      narSize += bytes.length
      digests?.push(digest)
    },
    finish() {
      const digest = whole.digest()
      const narHash = narHashFromDigest(digest)
      // So small a NAR is one block, and its CID its NarHash (design 6).
      const leaves = narSize <= LEAF_BYTES ? [digest] : digests
      return { narHash, plan: leaves === undefined ? undefined : planOf(narHash, narSize, leaves) }
    },
  }
}

function planOf(narHash: NarHash, narSize: number, digests: readonly Uint8Array[]): NarPlan {
  const tree = createTreeBuilder()
  const leaves = new Uint8Array(digests.length * DIGEST_BYTES)
  digests.forEach((digest, index) => {
    leaves.set(digest, index * DIGEST_BYTES)
    tree.addLeaf(digest, leafSize(narSize, index))
  })
  return { narHash, narSize, leaves, ...tree.finish() }
}
