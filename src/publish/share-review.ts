import type { DatabaseSync } from 'node:sqlite'
import type { Log } from '../log.ts'
import { formatPublicKey } from '../nix/key.ts'
import type { TrustedKeys } from '../nix/key.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import { inTransaction, migrate } from '../state/database.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import type { Policy } from '../substitute/policy.ts'

const STEPS = ['CREATE TABLE share_keys (keys TEXT NOT NULL) STRICT']

/**
 * Decides anew which NARs others may have, when the share keys are others than at the last start: what no share key
 * signed is taken back, what one signed is given. A NAR of which no narinfo is known any more is taken back.
 *
 * To be called before any listener is open.
 */
export function reviewSharing(
  deps: { db: DatabaseSync; index: LeafIndex; table: NarInfoTable; policy: Policy; log: Log },
  shareKeys: TrustedKeys,
): void {
  const { db, index, table, policy, log } = deps
  migrate(db, 'share', STEPS)
  const keys = [...shareKeys.values()].map(formatPublicKey).toSorted().join(' ')
  if (db.prepare('SELECT keys FROM share_keys').get()?.['keys'] === keys) return
  let given = 0
  let taken = 0
  inTransaction(db, () => {
    for (const { narHash, shared } of index.all()) {
      const may = table.byNarHash(narHash).some((info) => policy.signedBy(info, shareKeys))
      if (may === shared) continue
      index.setShared(narHash, may)
      if (may) given += 1
      else taken += 1
    }
    db.exec('DELETE FROM share_keys')
    db.prepare('INSERT INTO share_keys (keys) VALUES (?)').run(keys)
  })
  if (given + taken > 0) {
    log.info({ given, taken }, `share.keys changed: ${given} NARs are shared from now on, ${taken} no more`)
  }
}
