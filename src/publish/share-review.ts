import type { DatabaseSync } from 'node:sqlite'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import { inTransaction, migrate } from '../state/database.ts'
import type { LocalStore } from '../store/local-store.ts'
import { narInfoOfPath } from '../store/narinfo-source.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import type { SharePolicy } from './share-policy.ts'

const STEPS = [
  'CREATE TABLE share_keys (keys TEXT NOT NULL) STRICT',
  'ALTER TABLE share_keys RENAME TO share_rule; ALTER TABLE share_rule RENAME COLUMN keys TO rule',
]

/**
 * Decides anew which NARs others may have, when the rule is another than at the last start (`share.keys`, `share.deny`) or
 * nothing was shared then: what it does not allow is taken back, what it allows is given. A NAR of which no narinfo is
 * known any more is taken back.
 *
 * To be called before any listener is open.
 */
export function reviewSharing(
  deps: {
    db: DatabaseSync
    index: LeafIndex
    table: NarInfoTable
    store: Pick<LocalStore, 'pathInfo'> | undefined
    policy: SharePolicy
    log: Log
  },
  config: { shares: boolean },
): void {
  const { db, index, table, store, policy, log } = deps
  migrate(db, 'share', STEPS)
  if (!config.shares) {
    // What comes in until something is shared again is noted as not shared.
    db.exec('DELETE FROM share_rule')
    return
  }
  if (db.prepare('SELECT rule FROM share_rule').get()?.['rule'] === policy.rule) return
  /** What the database of the Nix store says of the paths that have these bytes. */
  function* inStore(narHash: NarHash): Generator<NarInfo> {
    for (const storePath of index.nar(narHash)?.storePaths ?? []) {
      const path = store?.pathInfo(hashPartOf(storePath))
      const info = path && narInfoOfPath(path)
      if (info?.narHash === narHash) yield info
    }
  }
  const may = (narHash: NarHash): boolean =>
    table.byNarHash(narHash).some((info) => policy.allows(info)) ||
    inStore(narHash).some((info) => policy.allows(info))
  let given = 0
  let taken = 0
  inTransaction(db, () => {
    for (const { narHash, shared } of index.all()) {
      const shall = may(narHash)
      if (shall === shared) continue
      index.setShared(narHash, shall)
      if (shall) given += 1
      else taken += 1
    }
    db.exec('DELETE FROM share_rule')
    db.prepare('INSERT INTO share_rule (rule) VALUES (?)').run(policy.rule)
  })
  if (given + taken > 0) {
    log.info(
      { given, taken },
      `what is shared was decided anew: ${given} NARs are shared from now on, ${taken} no more`,
    )
  }
}
