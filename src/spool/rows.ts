import type { DatabaseSync } from 'node:sqlite'
import { narHashDigest, narHashFromDigest, type NarHash } from '../nix/hash.ts'
import { inTransaction, migrate } from '../state/database.ts'

const STEPS = [
  `CREATE TABLE spool_nar (
     hash BLOB PRIMARY KEY,
     bytes INTEGER NOT NULL,
     pinned INTEGER NOT NULL DEFAULT 0,
     last_used INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE spool_part (
     hash BLOB PRIMARY KEY,
     nar_size INTEGER NOT NULL,
     leaves BLOB NOT NULL,
     bytes INTEGER NOT NULL,
     last_used INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
]

/** The spool's tables: what is thought to be on disk. Times are ms since 1970. */
export interface SpoolRows {
  nar(narHash: NarHash): { bytes: number; lastUsed: number } | undefined
  part(narHash: NarHash): { narSize: number; leaves: Uint8Array } | undefined
  savePart(narHash: NarHash, part: { narSize: number; leaves: Uint8Array; bytes: number }, now: number): void
  /** The part has become a whole NAR. */
  commit(narHash: NarHash, bytes: number, now: number): void
  touch(narHash: NarHash, now: number): void
  deleteNar(narHash: NarHash): void
  deletePart(narHash: NarHash): void
  totals(): { count: number; bytes: number }
  all(kind: 'nar' | 'part'): Set<NarHash>
}

export function openSpoolRows(db: DatabaseSync): SpoolRows {
  migrate(db, 'spool', STEPS)
  const selectNar = db.prepare('SELECT bytes, last_used FROM spool_nar WHERE hash = ?')
  const selectPart = db.prepare('SELECT nar_size, leaves FROM spool_part WHERE hash = ?')
  const upsertPart = db.prepare(
    'INSERT OR REPLACE INTO spool_part (hash, nar_size, leaves, bytes, last_used) VALUES (?, ?, ?, ?, ?)',
  )
  // An upsert, so that a NAR written anew keeps its pin.
  const upsertNar = db.prepare(
    `INSERT INTO spool_nar (hash, bytes, last_used) VALUES (?, ?, ?)
     ON CONFLICT (hash) DO UPDATE SET bytes = excluded.bytes, last_used = excluded.last_used`,
  )
  const updateUsed = db.prepare('UPDATE spool_nar SET last_used = ? WHERE hash = ?')
  const deleteNar = db.prepare('DELETE FROM spool_nar WHERE hash = ?')
  const deletePart = db.prepare('DELETE FROM spool_part WHERE hash = ?')
  const sum = db.prepare('SELECT count(*) AS count, coalesce(sum(bytes), 0) AS bytes FROM spool_nar')

  return {
    nar(narHash) {
      const row = selectNar.get(narHashDigest(narHash))
      return row && { bytes: Number(row['bytes']), lastUsed: Number(row['last_used']) }
    },
    part(narHash) {
      const row = selectPart.get(narHashDigest(narHash))
      return row && { narSize: Number(row['nar_size']), leaves: row['leaves'] as Uint8Array }
    },
    savePart(narHash, { narSize, leaves, bytes }, now) {
      upsertPart.run(narHashDigest(narHash), narSize, leaves, bytes, now)
    },
    commit(narHash, bytes, now) {
      const digest = narHashDigest(narHash)
      inTransaction(db, () => {
        upsertNar.run(digest, bytes, now)
        deletePart.run(digest)
      })
    },
    touch(narHash, now) {
      updateUsed.run(now, narHashDigest(narHash))
    },
    deleteNar(narHash) {
      deleteNar.run(narHashDigest(narHash))
    },
    deletePart(narHash) {
      deletePart.run(narHashDigest(narHash))
    },
    totals() {
      const row = sum.get()
      return { count: Number(row?.['count']), bytes: Number(row?.['bytes']) }
    },
    all(kind) {
      const rows = db
        .prepare(kind === 'nar' ? 'SELECT hash FROM spool_nar' : 'SELECT hash FROM spool_part')
        .all()
      return new Set(rows.map((row) => narHashFromDigest(row['hash'] as Uint8Array)))
    },
  }
}
