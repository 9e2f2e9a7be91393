/**
 * Narinfos that were verified once, kept so that what Nix was told stays answerable after a restart (Nix keeps a
 * narinfo for 30 days). Rows are text: whoever reads one asks policy again, since the user's keys may have changed.
 */
import type { DatabaseSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { NARINFO_ANSWERABLE_MS, NARINFO_PRUNE_COUNT, NARINFO_UNSAVED_MAX_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { narHashDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { formatNarInfo, NarInfoError, parseNarInfo } from '../nix/narinfo.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import { migrate } from '../state/database.ts'
import type { VerifiedNarInfo } from './policy.ts'

export interface NarInfoTable {
  /**
   * Never fails: a full or read-only disk is no reason to keep an answer from Nix. What was not written stays in memory,
   * so that the NAR is answered for as long as this process lives, and is written with a later one. If there is none,
   * Nix gets a 404 for the NAR after a restart, and goes to its next substituter.
   */
  put(info: VerifiedNarInfo): void
  byHashPart(hashPart: HashPart): NarInfo | undefined
  /** Many paths can share a NAR; any of their narinfos tells its size. */
  byNarHash(narHash: NarHash): NarInfo[]
  /** Drops rows that Nix cannot ask for any more; true when there may be more. Never fails. */
  prune(): boolean
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
  deps: { db: DatabaseSync; clock: () => number; log: Log },
  config: { storeDir: string },
): NarInfoTable {
  const { db, clock, log } = deps
  migrate(db, 'substitute', STEPS)
  const insert = db.prepare(
    `INSERT INTO narinfo(hash_part, nar_hash, text, seen) VALUES (?, ?, ?, ?)
     ON CONFLICT(hash_part) DO UPDATE SET nar_hash = excluded.nar_hash, text = excluded.text, seen = excluded.seen`,
  )
  const selectByHashPart = db.prepare('SELECT text FROM narinfo WHERE hash_part = ?')
  const selectByNarHash = db.prepare('SELECT text FROM narinfo WHERE nar_hash = ? ORDER BY seen DESC LIMIT 8')
  const deleteOld = db.prepare(
    'DELETE FROM narinfo WHERE hash_part IN (SELECT hash_part FROM narinfo WHERE seen < ? LIMIT ?)',
  )
  const unsaved = new LRUCache<HashPart, VerifiedNarInfo>({ max: NARINFO_UNSAVED_MAX_COUNT })
  let failing = false

  /** A row of an older narswarm, or of another store directory, is no row. */
  const parse = (row: Record<string, unknown>): NarInfo[] => {
    try {
      return [parseNarInfo(String(row['text']), config.storeDir)]
    } catch (error) {
      if (error instanceof NarInfoError) return []
      throw error
    }
  }

  /** Told once, until it works again: a full disk fails each time. */
  const attempt = <T>(use: () => T): T | undefined => {
    try {
      const result = use()
      if (failing && unsaved.size === 0) {
        failing = false
        log.info({}, 'the state database takes narinfos again')
      }
      return result
    } catch (error) {
      if (!failing) {
        const reason = messageOf(error)
        log.error({ err: error }, `narinfos are kept in memory only, the state database fails: ${reason}`)
      }
      failing = true
      return undefined
    }
  }

  const save = (info: VerifiedNarInfo): void => {
    const text = formatNarInfo(info, config.storeDir)
    insert.run(hashPartOf(info.storePath), narHashDigest(info.narHash), text, clock())
  }

  const prune = (): boolean =>
    attempt(() => {
      const { changes } = deleteOld.run(clock() - NARINFO_ANSWERABLE_MS, NARINFO_PRUNE_COUNT)
      return changes === NARINFO_PRUNE_COUNT
    }) ?? false
  prune()

  return {
    put(info) {
      unsaved.set(hashPartOf(info.storePath), info)
      attempt(() => {
        // The new one first; what is older is from when the disk was full.
        for (const [hashPart, one] of unsaved.entries()) {
          save(one)
          unsaved.delete(hashPart)
        }
      })
    },
    byHashPart(hashPart) {
      const known = unsaved.get(hashPart)
      if (known !== undefined) return known
      const row = selectByHashPart.get(hashPart)
      return row === undefined ? undefined : parse(row)[0]
    },
    byNarHash(narHash) {
      const known = [...unsaved.values()].filter((info) => info.narHash === narHash)
      return known.length > 0 ? known : selectByNarHash.all(narHashDigest(narHash)).flatMap(parse)
    },
    prune,
  }
}
