/** Which claims (this NAR has this root) were looked at lately, and what came of it. */
import type { DatabaseSync } from 'node:sqlite'
import { AUDIT_REMEMBERED_MS } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import { migrate } from '../state/database.ts'

/** `unavailable`: nobody gave the bytes. `untrusted`: no trusted key signed it, so nothing proves which bytes are meant. */
export type AuditOutcome = 'right' | 'wrong' | 'unavailable' | 'untrusted'

export interface AuditMemory {
  note(narHash: NarHash, cid: string, outcome: AuditOutcome): void
  /** Undefined when it was not looked at for AUDIT_REMEMBERED_MS, or ever. */
  last(narHash: NarHash, cid: string): { at: number; outcome: AuditOutcome } | undefined
  /** Of all that is remembered. */
  counts(): Record<AuditOutcome, number>
}

const STEPS = [
  `CREATE TABLE audit_claim (
     nar_hash TEXT NOT NULL,
     cid TEXT NOT NULL,
     at INTEGER NOT NULL,
     outcome TEXT NOT NULL,
     PRIMARY KEY (nar_hash, cid)
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX audit_claim_at ON audit_claim (at);`,
]

export function openAuditMemory(deps: { db: DatabaseSync; clock: () => number }): AuditMemory {
  const { db, clock } = deps
  migrate(db, 'audit_claim', STEPS)
  const upsert = db.prepare(
    'INSERT OR REPLACE INTO audit_claim (nar_hash, cid, at, outcome) VALUES (?, ?, ?, ?)',
  )
  const select = db.prepare('SELECT at, outcome FROM audit_claim WHERE nar_hash = ? AND cid = ? AND at >= ?')
  const tally = db.prepare(
    'SELECT outcome, count(*) AS count FROM audit_claim WHERE at >= ? GROUP BY outcome',
  )
  const prune = db.prepare('DELETE FROM audit_claim WHERE at < ?')
  const oldest = (): number => clock() - AUDIT_REMEMBERED_MS

  return {
    note(narHash, cid, outcome) {
      upsert.run(narHash, cid, clock(), outcome)
      prune.run(oldest())
    },
    last(narHash, cid) {
      const row = select.get(narHash, cid, oldest())
      return row && { at: Number(row['at']), outcome: row['outcome'] as AuditOutcome }
    },
    counts() {
      const counts = { right: 0, wrong: 0, unavailable: 0, untrusted: 0 }
      for (const row of tally.all(oldest())) counts[row['outcome'] as AuditOutcome] = Number(row['count'])
      return counts
    },
  }
}
