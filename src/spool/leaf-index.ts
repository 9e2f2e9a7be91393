import type { DatabaseSync } from 'node:sqlite'
import type { CID } from 'multiformats/cid'
import { nodeCid, rawCid } from '../dag/cid.ts'
import type { NarPlan } from '../dag/planner.ts'
import { LEAF_BYTES, leafCount, leafSize } from '../dag/profile.ts'
import { LEAF_LOCATIONS_MAX_COUNT } from '../limits.ts'
import { narHashDigest, narHashFromDigest, type NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import { inTransaction, migrate } from '../state/database.ts'

/** Where a leaf is thought to be. Whoever reads it there hashes it. */
export interface LeafLocation {
  readonly narHash: NarHash
  /** Bytes of the whole NAR. */
  readonly narSize: number
  /** Number of the leaf in it, from 0. */
  readonly index: number
  /** Byte of the NAR at which the leaf begins: `index` × 1 MiB. */
  readonly offset: number
  /** Bytes of the leaf. */
  readonly size: number
  readonly shared: boolean
}

interface IndexedNar {
  readonly narSize: number
  readonly root: CID
  /** Whether others may have its blocks. */
  readonly shared: boolean
  readonly inSpool: boolean
  readonly storePaths: StorePath[]
}

/**
 * Which local NAR holds a block: leaf digest to NarHash and leaf number, and the interior nodes themselves. It says
 * maybe: files may have gone since.
 *
 * A NAR of at most 1 MiB is one leaf whose digest is its NarHash, hence it has no rows but its own.
 */
export interface LeafIndex {
  /**
   * In one transaction, and again without harm. `shared` and `inSpool` are only ever raised here.
   *
   * @throws RangeError when the plan's leaves do not fit its size, or size or root differ from what the NarHash had before
   */
  put(plan: NarPlan, where: { shared: boolean; storePath?: StorePath; inSpool: boolean }): void
  /** Shared NARs first, then those in the spool; at most LEAF_LOCATIONS_MAX_COUNT. */
  locate(digest: Uint8Array): LeafLocation[]
  /** An interior node. `shared` when any NAR that has it is. */
  node(digest: Uint8Array): { bytes: Uint8Array; shared: boolean } | undefined
  nar(narHash: NarHash): IndexedNar | undefined
  /** Of the NAR whose DAG has this root. */
  narOfRoot(digest: Uint8Array): { narHash: NarHash; narSize: number; shared: boolean } | undefined
  /** NARs with rows above `id` in the order of their rows, `count` at most: for who walks over all of them. */
  list(
    id: number,
    count: number,
  ): { readonly id: number; readonly narHash: NarHash; readonly storePaths: readonly StorePath[] }[]
  /** Whether its rows are what these bytes make. True for one that is not indexed. */
  matches(plan: NarPlan): boolean
  /** Its bytes are also those of this store path. Nothing for a NAR that is not indexed. */
  addPath(narHash: NarHash, storePath: StorePath): void
  /** The store path is gone; so is the NAR, when that was the last place of its bytes. */
  removePath(narHash: NarHash, storePath: StorePath): void
  setShared(narHash: NarHash, shared: boolean): void
  /** All that others may have is taken back. @returns how many NARs */
  unshareAll(): number
  setInSpool(narHash: NarHash, inSpool: boolean): void
  drop(narHash: NarHash): void
}

const STEPS = [
  `CREATE TABLE dag_nar (
     id INTEGER PRIMARY KEY,
     hash BLOB NOT NULL UNIQUE,
     size INTEGER NOT NULL,
     root BLOB NOT NULL,
     shared INTEGER NOT NULL,
     in_spool INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX dag_nar_root ON dag_nar (root);
   CREATE TABLE dag_path (
     nar INTEGER NOT NULL REFERENCES dag_nar (id) ON DELETE CASCADE,
     store_path TEXT NOT NULL,
     PRIMARY KEY (nar, store_path)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE dag_leaf (
     digest BLOB NOT NULL,
     nar INTEGER NOT NULL REFERENCES dag_nar (id) ON DELETE CASCADE,
     idx INTEGER NOT NULL,
     PRIMARY KEY (digest, nar)
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX dag_leaf_nar ON dag_leaf (nar);
   CREATE TABLE dag_node (
     digest BLOB NOT NULL,
     nar INTEGER NOT NULL REFERENCES dag_nar (id) ON DELETE CASCADE,
     bytes BLOB NOT NULL,
     PRIMARY KEY (digest, nar)
   ) STRICT;
   CREATE INDEX dag_node_nar ON dag_node (nar)`,
]

const DIGEST_BYTES = 32

/** A read-only database, in the swarm's worker, will do for all that does not write. */
export function openLeafIndex(db: DatabaseSync): LeafIndex {
  migrate(db, 'leaf-index', STEPS)
  const insertNar = db.prepare(
    'INSERT INTO dag_nar (hash, size, root, shared, in_spool) VALUES (?, ?, ?, ?, ?)',
  )
  const raiseNar = db.prepare(
    'UPDATE dag_nar SET shared = max(shared, ?), in_spool = max(in_spool, ?) WHERE id = ?',
  )
  const insertPath = db.prepare('INSERT OR IGNORE INTO dag_path (nar, store_path) VALUES (?, ?)')
  // OR IGNORE: of a leaf that repeats within a NAR (zeros) the first place is enough.
  const insertLeaf = db.prepare('INSERT OR IGNORE INTO dag_leaf (digest, nar, idx) VALUES (?, ?, ?)')
  const insertNode = db.prepare('INSERT OR IGNORE INTO dag_node (digest, nar, bytes) VALUES (?, ?, ?)')
  const selectNar = db.prepare('SELECT id, size, root, shared, in_spool FROM dag_nar WHERE hash = ?')
  const selectList = db.prepare('SELECT id, hash FROM dag_nar WHERE id > ? ORDER BY id LIMIT ?')
  const selectRoot = db.prepare('SELECT hash, size, shared FROM dag_nar WHERE root = ? LIMIT 1')
  const selectPaths = db.prepare('SELECT store_path FROM dag_path WHERE nar = ? ORDER BY store_path')
  const selectLeaf = db.prepare(
    `SELECT hash, size, shared, in_spool, idx
       FROM dag_leaf JOIN dag_nar ON dag_nar.id = dag_leaf.nar WHERE digest = :digest
     UNION ALL
     SELECT hash, size, shared, in_spool, 0 FROM dag_nar WHERE hash = :digest AND size <= ${LEAF_BYTES}
     ORDER BY shared DESC, in_spool DESC LIMIT ${LEAF_LOCATIONS_MAX_COUNT}`,
  )
  const selectNode = db.prepare(
    `SELECT bytes, shared FROM dag_node JOIN dag_nar ON dag_nar.id = dag_node.nar
     WHERE digest = ? ORDER BY shared DESC LIMIT 1`,
  )
  const selectLeaves = db.prepare(
    'SELECT digest, idx FROM dag_leaf JOIN dag_nar ON dag_nar.id = nar WHERE hash = ?',
  )
  const selectNodes = db.prepare(
    'SELECT digest, bytes FROM dag_node JOIN dag_nar ON dag_nar.id = nar WHERE hash = ?',
  )
  const updateShared = db.prepare('UPDATE dag_nar SET shared = ? WHERE hash = ?')
  const unshareAll = db.prepare('UPDATE dag_nar SET shared = 0 WHERE shared = 1')
  const updateInSpool = db.prepare('UPDATE dag_nar SET in_spool = ? WHERE hash = ?')
  const deletePath = db.prepare('DELETE FROM dag_path WHERE nar = ? AND store_path = ?')
  const deleteHomeless = db.prepare(
    'DELETE FROM dag_nar WHERE id = :id AND in_spool = 0 AND NOT EXISTS (SELECT 1 FROM dag_path WHERE nar = :id)',
  )
  const deleteNar = db.prepare('DELETE FROM dag_nar WHERE hash = ?')

  const insert = (plan: NarPlan, shared: boolean, inSpool: boolean): number => {
    const { narHash, narSize, root, leaves, nodes } = plan
    const digest = narHashDigest(narHash)
    const id = Number(
      insertNar.run(digest, narSize, root.multihash.digest, Number(shared), Number(inSpool)).lastInsertRowid,
    )
    if (narSize > LEAF_BYTES) {
      for (let at = 0; at < leaves.length; at += DIGEST_BYTES) {
        insertLeaf.run(leaves.subarray(at, at + DIGEST_BYTES), id, at / DIGEST_BYTES)
      }
    }
    for (const node of nodes) insertNode.run(node.cid.multihash.digest, id, node.bytes)
    return id
  }

  const pathsOf = (id: number): StorePath[] =>
    selectPaths.all(id).map((path) => path['store_path'] as StorePath)

  return {
    put(plan, { shared, storePath, inSpool }) {
      checkPlan(plan)
      inTransaction(db, () => {
        const row = selectNar.get(narHashDigest(plan.narHash))
        if (row !== undefined) {
          checkSame(plan, Number(row['size']), row['root'] as Uint8Array)
          raiseNar.run(Number(shared), Number(inSpool), Number(row['id']))
        }
        const id = row === undefined ? insert(plan, shared, inSpool) : Number(row['id'])
        if (storePath !== undefined) insertPath.run(id, storePath)
      })
    },
    locate: (digest) =>
      selectLeaf.all({ digest }).map((row) => {
        const narSize = Number(row['size'])
        const index = Number(row['idx'])
        return {
          narHash: narHashFromDigest(row['hash'] as Uint8Array),
          narSize,
          index,
          offset: index * LEAF_BYTES,
          size: leafSize(narSize, index),
          shared: row['shared'] === 1,
        }
      }),
    node(digest) {
      const row = selectNode.get(digest)
      return row && { bytes: row['bytes'] as Uint8Array, shared: row['shared'] === 1 }
    },
    nar(narHash) {
      const row = selectNar.get(narHashDigest(narHash))
      if (row === undefined) return undefined
      const narSize = Number(row['size'])
      const root = row['root'] as Uint8Array
      return {
        narSize,
        root: narSize > LEAF_BYTES ? nodeCid(root) : rawCid(root),
        shared: row['shared'] === 1,
        inSpool: row['in_spool'] === 1,
        storePaths: pathsOf(Number(row['id'])),
      }
    },
    narOfRoot(digest) {
      const row = selectRoot.get(digest)
      return (
        row && {
          narHash: narHashFromDigest(row['hash'] as Uint8Array),
          narSize: Number(row['size']),
          shared: row['shared'] === 1,
        }
      )
    },
    list: (after, count) =>
      selectList.all(after, count).map((row) => {
        const id = Number(row['id'])
        return { id, narHash: narHashFromDigest(row['hash'] as Uint8Array), storePaths: pathsOf(id) }
      }),
    matches(plan) {
      const hash = narHashDigest(plan.narHash)
      const row = selectNar.get(hash)
      if (row === undefined) return true
      if (Number(row['size']) !== plan.narSize) return false
      if (Buffer.compare(row['root'] as Uint8Array, plan.root.multihash.digest) !== 0) return false
      const { leaves } = plan
      const rows = selectLeaves.all(hash)
      const nodes = new Map(plan.nodes.map(({ cid, bytes }) => [hex(cid.multihash.digest), bytes]))
      const nodeRows = selectNodes.all(hash)
      return (
        rows.length === (plan.narSize > LEAF_BYTES ? countDigests(leaves) : 0) &&
        rows.every((one) => {
          const at = Number(one['idx']) * DIGEST_BYTES
          return Buffer.compare(leaves.subarray(at, at + DIGEST_BYTES), one['digest'] as Uint8Array) === 0
        }) &&
        nodeRows.length === nodes.size &&
        nodeRows.every((one) => {
          const node = nodes.get(hex(one['digest'] as Uint8Array))
          return node !== undefined && Buffer.compare(node, one['bytes'] as Uint8Array) === 0
        })
      )
    },
    addPath(narHash, storePath) {
      const row = selectNar.get(narHashDigest(narHash))
      if (row !== undefined) insertPath.run(Number(row['id']), storePath)
    },
    removePath(narHash, storePath) {
      const row = selectNar.get(narHashDigest(narHash))
      if (row === undefined) return
      const id = Number(row['id'])
      inTransaction(db, () => {
        deletePath.run(id, storePath)
        deleteHomeless.run({ id })
      })
    },
    setShared(narHash, shared) {
      updateShared.run(Number(shared), narHashDigest(narHash))
    },
    unshareAll: () => Number(unshareAll.run().changes),
    setInSpool(narHash, inSpool) {
      updateInSpool.run(Number(inSpool), narHashDigest(narHash))
    },
    drop(narHash) {
      deleteNar.run(narHashDigest(narHash))
    },
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** A leaf that repeats has one row. */
function countDigests(leaves: Uint8Array): number {
  const digests = new Set<string>()
  for (let at = 0; at < leaves.length; at += DIGEST_BYTES) {
    digests.add(hex(leaves.subarray(at, at + DIGEST_BYTES)))
  }
  return digests.size
}

function checkPlan({ narHash, narSize, leaves }: NarPlan): void {
  const expected = leafCount(narSize) * DIGEST_BYTES
  if (leaves.length !== expected) {
    throw new RangeError(`NAR ${narHash}: expected ${expected} bytes of leaf digests, got ${leaves.length}`)
  }
}

/** Size and root are pure functions of the NarHash's bytes. */
function checkSame(plan: NarPlan, narSize: number, root: Uint8Array): void {
  if (narSize === plan.narSize && Buffer.compare(root, plan.root.multihash.digest) === 0) return
  const had = `${narSize} bytes and root ${Buffer.from(root).toString('hex')}`
  const got = `${plan.narSize} bytes and root ${Buffer.from(plan.root.multihash.digest).toString('hex')}`
  throw new RangeError(`NAR ${plan.narHash}: it was indexed with ${had}, got ${got}`)
}
