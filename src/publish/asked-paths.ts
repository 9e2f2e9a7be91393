/**
 * Store paths of large NARs that others asked for and nobody has hashed leaf by leaf yet, by NarHash: Nix's own database
 * cannot be asked by NarHash. Kept over restarts, as Nix keeps a narinfo for 30 days. What is indexed is found there.
 */
import type { DatabaseSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { ASKED_PATHS_UNSAVED_MAX_COUNT } from '../limits.ts'
import { narHashDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { BestEffort } from '../state/best-effort.ts'
import { migrate } from '../state/database.ts'

export interface AskedPaths {
  /** Never fails: what the disk would not take is known for as long as this process lives. */
  remember(narHash: NarHash, storePath: StorePath): void
  of(narHash: NarHash): readonly StorePath[]
  forget(narHash: NarHash): void
}

const STEPS = [
  `CREATE TABLE asked_path (
     nar_hash BLOB NOT NULL,
     store_path TEXT NOT NULL,
     PRIMARY KEY (nar_hash, store_path)
   ) STRICT, WITHOUT ROWID`,
]

export function openAskedPaths({ db, bestEffort }: { db: DatabaseSync; bestEffort: BestEffort }): AskedPaths {
  migrate(db, 'asked-paths', STEPS)
  const insert = db.prepare('INSERT OR IGNORE INTO asked_path (nar_hash, store_path) VALUES (?, ?)')
  const select = db.prepare('SELECT store_path FROM asked_path WHERE nar_hash = ? ORDER BY store_path')
  const remove = db.prepare('DELETE FROM asked_path WHERE nar_hash = ?')
  const unsaved = new LRUCache<NarHash, StorePath>({ max: ASKED_PATHS_UNSAVED_MAX_COUNT })
  const saved = (narHash: NarHash): StorePath[] =>
    select.all(narHashDigest(narHash)).map((row) => row['store_path'] as StorePath)

  return {
    remember(narHash, storePath) {
      if (saved(narHash).includes(storePath)) return
      if (!bestEffort(() => insert.run(narHashDigest(narHash), storePath))) unsaved.set(narHash, storePath)
    },
    of(narHash) {
      const known = unsaved.get(narHash)
      return known === undefined ? saved(narHash) : [known, ...saved(narHash)]
    },
    forget(narHash) {
      unsaved.delete(narHash)
      if (saved(narHash).length > 0) bestEffort(() => remove.run(narHashDigest(narHash)))
    },
  }
}
