/**
 * Narinfos that were verified once, kept so that what Nix was told stays answerable after a restart (Nix keeps a
 * narinfo for 30 days). Rows are text: whoever reads one asks policy again, since the user's keys may have changed.
 */
import type { DatabaseSync } from 'node:sqlite'
import { NARINFO_ANSWERABLE_MS } from '../limits.ts'
import { narHashDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { formatNarInfo, NarInfoError, parseNarInfo } from '../nix/narinfo.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import { migrate } from '../state/database.ts'
import type { VerifiedNarInfo } from './policy.ts'

export interface NarInfoTable {
  put(info: VerifiedNarInfo): void
  byHashPart(hashPart: HashPart): NarInfo | undefined
  /** Many paths can share a NAR; any of their narinfos tells its size. */
  byNarHash(narHash: NarHash): NarInfo[]
}

const STEPS = [
  `CREATE TABLE narinfo (
     hash_part TEXT PRIMARY KEY,
     nar_hash  BLOB NOT NULL,
     text      TEXT NOT NULL,
     seen      INTEGER NOT NULL
   ) WITHOUT ROWID;
   CREATE INDEX narinfo_by_nar ON narinfo(nar_hash);
   CREATE INDEX narinfo_by_seen ON narinfo(seen);`,
]

export function createNarInfoTable(
  deps: { db: DatabaseSync; clock: () => number },
  config: { storeDir: string },
): NarInfoTable {
  const { db, clock } = deps
  migrate(db, 'substitute', STEPS)
  db.prepare('DELETE FROM narinfo WHERE seen < ?').run(clock() - NARINFO_ANSWERABLE_MS)
  const insert = db.prepare(
    `INSERT INTO narinfo(hash_part, nar_hash, text, seen) VALUES (?, ?, ?, ?)
     ON CONFLICT(hash_part) DO UPDATE SET nar_hash = excluded.nar_hash, text = excluded.text, seen = excluded.seen`,
  )
  const selectByHashPart = db.prepare('SELECT text FROM narinfo WHERE hash_part = ?')
  const selectByNarHash = db.prepare('SELECT text FROM narinfo WHERE nar_hash = ? ORDER BY seen DESC LIMIT 8')

  /** A row of an older narswarm, or of another store directory, is no row. */
  const parse = (row: Record<string, unknown>): NarInfo[] => {
    try {
      return [parseNarInfo(String(row['text']), config.storeDir)]
    } catch (error) {
      if (error instanceof NarInfoError) return []
      throw error
    }
  }

  return {
    put(info) {
      insert.run(
        hashPartOf(info.storePath),
        narHashDigest(info.narHash),
        formatNarInfo(info, config.storeDir),
        clock(),
      )
    },
    byHashPart(hashPart) {
      const row = selectByHashPart.get(hashPart)
      return row === undefined ? undefined : parse(row)[0]
    },
    byNarHash(narHash) {
      return selectByNarHash.all(narHashDigest(narHash)).flatMap(parse)
    },
  }
}
