import type { DatabaseSync } from 'node:sqlite'
import { narHashDigest, narHashFromDigest, type NarHash } from '../nix/hash.ts'
import type { BestEffort } from '../state/best-effort.ts'
import { inTransaction, migrate } from '../state/database.ts'
import type { Holding } from './victims.ts'

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

const SELECT_ALL = {
  nar: 'SELECT hash FROM spool_nar',
  unpinned: 'SELECT hash FROM spool_nar WHERE pinned = 0',
  part: 'SELECT hash FROM spool_part',
} as const

interface NarRow {
  readonly bytes: number
  readonly lastUsed: number
  readonly pinned: boolean
}

export interface SpoolTotals {
  readonly nars: number
  readonly bytes: number
  readonly pinnedBytes: number
  readonly parts: number
  readonly partBytes: number
  /** Of unpinned NARs and of parts that are not larger than the quota. */
  readonly keepableBytes: number
}

/**
 * The spool's tables: what is thought to be on disk. Times are ms since 1970.
 *
 * A whole NAR whose row the database did not take is remembered in memory: its bytes are proved and on disk, and the next
 * start finds the file. All other writes but `pin` may be lost too.
 */
export interface SpoolRows {
  nar(narHash: NarHash): NarRow | undefined
  part(narHash: NarHash): { narSize: number; leaves: Uint8Array; bytes: number } | undefined
  /** @returns whether it was written */
  savePart(
    narHash: NarHash,
    part: { narSize: number; leaves: Uint8Array; bytes: number },
    now: number,
  ): boolean
  /** The part has become a whole NAR. */
  commit(narHash: NarHash, bytes: number, now: number): void
  touch(narHash: NarHash, now: number): void
  /** @throws what SQLite throws */
  pin(narHash: NarHash): void
  deleteNar(narHash: NarHash): void
  deletePart(narHash: NarHash): void
  totals(): SpoolTotals
  /** Unpinned NARs and parts, least recently used first. */
  oldest(limit: number): Holding[]
  /** Parts last written before `time`. */
  partsBefore(time: number): Holding[]
  all(kind: 'nar' | 'unpinned' | 'part'): Set<NarHash>
}

/** @param maxBytes the quota: see `keepableBytes` */
export function openSpoolRows(db: DatabaseSync, bestEffort: BestEffort, maxBytes = Infinity): SpoolRows {
  migrate(db, 'spool', STEPS)
  const selectNar = db.prepare('SELECT bytes, pinned, last_used FROM spool_nar WHERE hash = ?')
  const selectPart = db.prepare('SELECT nar_size, leaves, bytes FROM spool_part WHERE hash = ?')
  const upsertPart = db.prepare(
    'INSERT OR REPLACE INTO spool_part (hash, nar_size, leaves, bytes, last_used) VALUES (?, ?, ?, ?, ?)',
  )
  // An upsert, so that a NAR written anew keeps its pin.
  const upsertNar = db.prepare(
    `INSERT INTO spool_nar (hash, bytes, last_used) VALUES (?, ?, ?)
     ON CONFLICT (hash) DO UPDATE SET bytes = excluded.bytes, last_used = excluded.last_used`,
  )
  const updateUsed = db.prepare('UPDATE spool_nar SET last_used = ? WHERE hash = ?')
  const updatePinned = db.prepare('UPDATE spool_nar SET pinned = 1 WHERE hash = ?')
  const deleteNar = db.prepare('DELETE FROM spool_nar WHERE hash = ?')
  const deletePart = db.prepare('DELETE FROM spool_part WHERE hash = ?')
  const sum = db.prepare(
    `SELECT count(*) AS count, coalesce(sum(bytes), 0) AS bytes,
       coalesce(sum(bytes * pinned), 0) AS pinned,
       coalesce(sum(CASE WHEN pinned = 0 AND bytes <= :max THEN bytes END), 0) AS keepable FROM spool_nar`,
  )
  const sumParts = db.prepare(
    `SELECT count(*) AS count, coalesce(sum(bytes), 0) AS bytes,
       coalesce(sum(CASE WHEN bytes <= :max THEN bytes END), 0) AS keepable FROM spool_part`,
  )
  const selectOldest = db.prepare(
    `SELECT 'nar' AS kind, hash, bytes, last_used FROM spool_nar WHERE pinned = 0
     UNION ALL SELECT 'part', hash, bytes, last_used FROM spool_part
     ORDER BY last_used LIMIT ?`,
  )
  const selectPartsBefore = db.prepare('SELECT hash, bytes FROM spool_part WHERE last_used < ?')
  const max = Number.isFinite(maxBytes) ? maxBytes : Number.MAX_SAFE_INTEGER
  /** Whole NARs without a row. Owner: `commit` and `deleteNar`. */
  const unsaved = new Map<NarHash, NarRow>()
  let totals: SpoolTotals | undefined

  const write = (work: () => void): boolean => {
    totals = undefined
    return bestEffort(work)
  }
  const holding = (row: Record<string, unknown>, kind: 'nar' | 'part'): Holding => ({
    kind,
    narHash: narHashFromDigest(row['hash'] as Uint8Array),
    bytes: Number(row['bytes']),
  })
  const addUp = (): SpoolTotals => {
    const nars = sum.get({ max })
    const parts = sumParts.get({ max })
    const extra = [...unsaved.values()].map((row) => row.bytes)
    const add = (sizes: readonly number[]): number => sizes.reduce((one, other) => one + other, 0)
    return {
      nars: Number(nars?.['count']) + unsaved.size,
      bytes: Number(nars?.['bytes']) + add(extra),
      pinnedBytes: Number(nars?.['pinned']),
      parts: Number(parts?.['count']),
      partBytes: Number(parts?.['bytes']),
      keepableBytes:
        Number(nars?.['keepable']) + Number(parts?.['keepable']) + add(extra.filter((bytes) => bytes <= max)),
    }
  }

  return {
    nar(narHash) {
      const row = selectNar.get(narHashDigest(narHash))
      if (row === undefined) return unsaved.get(narHash)
      return {
        bytes: Number(row['bytes']),
        lastUsed: Number(row['last_used']),
        pinned: row['pinned'] === 1,
      }
    },
    part(narHash) {
      const row = selectPart.get(narHashDigest(narHash))
      if (row === undefined) return undefined
      return {
        narSize: Number(row['nar_size']),
        leaves: row['leaves'] as Uint8Array,
        bytes: Number(row['bytes']),
      }
    },
    savePart(narHash, { narSize, leaves, bytes }, now) {
      return write(() => void upsertPart.run(narHashDigest(narHash), narSize, leaves, bytes, now))
    },
    commit(narHash, bytes, now) {
      const digest = narHashDigest(narHash)
      const saved = write(() => {
        inTransaction(db, () => {
          upsertNar.run(digest, bytes, now)
          deletePart.run(digest)
        })
      })
      if (saved) unsaved.delete(narHash)
      else unsaved.set(narHash, { bytes, lastUsed: now, pinned: false })
    },
    touch(narHash, now) {
      bestEffort(() => void updateUsed.run(now, narHashDigest(narHash)))
    },
    pin(narHash) {
      totals = undefined
      updatePinned.run(narHashDigest(narHash))
      const row = unsaved.get(narHash)
      if (row !== undefined) unsaved.set(narHash, { ...row, pinned: true })
    },
    deleteNar(narHash) {
      unsaved.delete(narHash)
      write(() => void deleteNar.run(narHashDigest(narHash)))
    },
    deletePart(narHash) {
      write(() => void deletePart.run(narHashDigest(narHash)))
    },
    totals: () => (totals ??= addUp()),
    oldest: (limit) => [
      ...selectOldest.all(limit).map((row) => holding(row, row['kind'] === 'nar' ? 'nar' : 'part')),
      ...[...unsaved]
        .filter(([, { pinned }]) => !pinned)
        .map(([narHash, { bytes }]) => ({ kind: 'nar' as const, narHash, bytes })),
    ],
    partsBefore: (time) => selectPartsBefore.all(time).map((row) => holding(row, 'part')),
    all(kind) {
      const rows = db.prepare(SELECT_ALL[kind]).all()
      const hashes = new Set(rows.map((row) => narHashFromDigest(row['hash'] as Uint8Array)))
      if (kind !== 'part') for (const narHash of unsaved.keys()) hashes.add(narHash)
      return hashes
    },
  }
}
