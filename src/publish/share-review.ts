import type { DatabaseSync } from 'node:sqlite'
import { SHARE_REVIEW_TURN_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import { inTransaction, migrate } from '../state/database.ts'
import type { LocalStore } from '../store/local-store.ts'
import { narInfoOfPath } from '../store/narinfo-source.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import type { SharePolicy } from './share-policy.ts'

export interface ShareReview {
  /** Decides about the next few NARs. @returns whether there are more */
  turn(): boolean
}

const STEPS = [
  'CREATE TABLE share_keys (keys TEXT NOT NULL) STRICT',
  'ALTER TABLE share_keys RENAME TO share_rule; ALTER TABLE share_rule RENAME COLUMN keys TO rule',
  // Row of the index up to which it was decided by that rule; NULL: all of it.
  'ALTER TABLE share_rule ADD COLUMN decided_to INTEGER',
]

/**
 * Decides anew which NARs others may have, when the rule is another than at the last start (`share.keys`, `share.deny`) or
 * nothing was shared then. All of them are taken back at once, before any listener is open; those that the rule allows are
 * given again turn by turn, for each costs a signature. A crash between two turns costs nothing. A NAR of which no narinfo
 * is known any more stays taken back.
 */
export function openShareReview(
  deps: {
    db: DatabaseSync
    index: LeafIndex
    table: NarInfoTable
    store: Pick<LocalStore, 'pathInfo'> | undefined
    policy: SharePolicy
    log: Log
  },
  config: { shares: boolean },
): ShareReview {
  const { db, index, table, store, policy, log } = deps
  migrate(db, 'share', STEPS)
  const known = db.prepare('SELECT rule, decided_to FROM share_rule').get()
  const setDecided = db.prepare('UPDATE share_rule SET decided_to = ?')
  let decidedTo = known === undefined ? 0 : (known['decided_to'] as number | null)
  let given = 0

  if (!config.shares) {
    // What comes in until something is shared again is noted as not shared.
    if (known !== undefined) db.exec('DELETE FROM share_rule')
    return { turn: () => false }
  }
  if (known?.['rule'] !== policy.rule) {
    decidedTo = 0
    const taken = inTransaction(db, () => {
      db.exec('DELETE FROM share_rule')
      db.prepare('INSERT INTO share_rule (rule, decided_to) VALUES (?, 0)').run(policy.rule)
      return index.unshareAll()
    })
    if (taken > 0)
      log.info({ taken }, `what is shared is decided anew: ${taken} NARs are taken back until then`)
  }

  /** What the database of the Nix store says of the paths that have these bytes. */
  function* inStore(narHash: NarHash, storePaths: readonly StorePath[]): Generator<NarInfo> {
    for (const storePath of storePaths) {
      const path = store?.pathInfo(hashPartOf(storePath))
      const info = path && narInfoOfPath(path)
      if (info?.narHash === narHash) yield info
    }
  }

  return {
    turn() {
      if (decidedTo === null) return false
      const nars = index.list(decidedTo, SHARE_REVIEW_TURN_COUNT)
      const last = nars.at(-1)?.id ?? null
      const allowed = nars.filter(
        ({ narHash, storePaths }) =>
          table.byNarHash(narHash).some((info) => policy.allows(info)) ||
          inStore(narHash, storePaths).some((info) => policy.allows(info)),
      )
      inTransaction(db, () => {
        for (const { narHash } of allowed) index.setShared(narHash, true)
        setDecided.run(last)
      })
      decidedTo = last
      given += allowed.length
      if (last === null && given > 0)
        log.info({ given }, `what is shared was decided anew: ${given} NARs are`)
      return last !== null
    },
  }
}
