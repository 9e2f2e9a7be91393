import type { CID } from 'multiformats/cid'
import { DIGEST_BYTES, nodeCid, rawCid, sha256 } from './cid.ts'
import { encodeNode } from './node-encoder.ts'
import { LEAF_BYTES, MAX_LINKS } from './profile.ts'

/** An interior node, encoded. */
export interface DagNode {
  readonly cid: CID
  readonly bytes: Uint8Array
}

export interface TreeBuilder {
  /**
   * The next leaf: its sha256 and its length in bytes.
   *
   * @throws RangeError for a length that the profile does not allow there: only the last leaf is below 1 MiB
   */
  addLeaf(digest: Uint8Array, size: number): void
  /** Once. Nodes come children before parents, the root last, and one that occurs many times comes once. */
  finish(): { root: CID; nodes: DagNode[] }
}

/** Children that wait for their parent: of leaves at level 0, of nodes of depth d at level d. */
interface Level {
  readonly digests: Uint8Array
  count: number
  /** Bytes below them. */
  size: number
}

/**
 * Builds the balanced tree from left to right, as Kubo lays it out: a node is closed when the child after its 1,024th
 * comes, a single child of the last node keeps its node, and the root is the first node that stands alone.
 * Holds the digests of one open node a level, and the nodes that are done.
 */
export function createTreeBuilder(): TreeBuilder {
  const levels: Level[] = []
  const nodes: DagNode[] = []
  const seen = new Set<string>()
  let lastSize = LEAF_BYTES

  function add(depth: number, digest: Uint8Array, size: number): void {
    let level = levels[depth]
    if (level === undefined) {
      level = { digests: new Uint8Array(MAX_LINKS * DIGEST_BYTES), count: 0, size: 0 }
      levels.push(level)
    }
    if (level.count === MAX_LINKS) close(depth, level)
    level.digests.set(digest, level.count * DIGEST_BYTES)
    level.count++
    level.size += size
  }

  function close(depth: number, level: Level): void {
    const bytes = encodeNode(level.size, depth + 1, level.digests.subarray(0, level.count * DIGEST_BYTES))
    const digest = sha256(bytes)
    const key = digest.toString('latin1')
    if (!seen.has(key)) {
      seen.add(key)
      nodes.push({ cid: nodeCid(digest), bytes })
    }
    add(depth + 1, digest, level.size)
    level.count = 0
    level.size = 0
  }

  return {
    addLeaf(digest, size) {
      if (digest.length !== DIGEST_BYTES) {
        throw new RangeError(`expected a sha256 digest of ${DIGEST_BYTES} bytes, got ${digest.length}`)
      }
      // An empty leaf is legal alone, as the whole of an empty file; lastSize is then 0 and nothing may follow.
      const smallest = levels.length === 0 ? 0 : 1
      if (lastSize !== LEAF_BYTES || !Number.isInteger(size) || size < smallest || size > LEAF_BYTES) {
        throw new RangeError(
          `a leaf of ${size} bytes cannot follow one of ${lastSize}: all but the last are of 1 MiB`,
        )
      }
      lastSize = size
      add(0, digest, size)
    },

    finish() {
      for (let depth = 0; ; depth++) {
        const level = levels[depth]
        if (level === undefined) throw new RangeError('a tree has at least one leaf, which may be empty')
        if (depth === levels.length - 1 && level.count === 1) {
          const digest = level.digests.subarray(0, DIGEST_BYTES)
          return { root: depth === 0 ? rawCid(digest) : nodeCid(digest), nodes }
        }
        close(depth, level)
      }
    },
  }
}
