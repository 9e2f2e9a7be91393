/** What others may have of this machine, and the work that makes it known by CID. */
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import { createStoreIndexer } from '../operations/store-indexer.ts'
import type { StoreIndexer } from '../operations/store-indexer.ts'
import { createFirstReads } from '../publish/first-reads.ts'
import { createHoldings } from '../publish/holdings.ts'
import type { Holdings } from '../publish/holdings.ts'
import { createStoreHoldings } from '../publish/store-holdings.ts'
import type { NodeState } from './state.ts'

export interface NodeSharing {
  readonly holdings: Holdings
  /** Absent where nothing is shared from a store, or nothing is to be indexed by itself. */
  readonly indexer: StoreIndexer | undefined
  close(): void
}

/** @param deps.isBusy bytes go to or come from somebody */
export function createSharing(
  config: Config,
  state: NodeState,
  { isBusy, log, clock }: { isBusy: () => boolean; log: Log; clock: () => number },
): NodeSharing {
  const { db, bestEffort, store, sharePolicy: policy, table, knownLeaves: index, blocks, asked } = state
  if (!shares(config) || store === undefined) {
    return { holdings: createHoldings({ policy, table, index, blocks }), indexer: undefined, close() {} }
  }
  const reads = createFirstReads({
    store,
    proved({ narHash, storePath }, plan) {
      index.put(plan, { shared: true, storePath, inSpool: false })
      asked.forget(narHash)
    },
    clock,
    log,
  })
  const inStore = createStoreHoldings({ policy, store, index, asked, reads })
  const { indexRate } = config.share
  const indexer =
    indexRate === 0
      ? undefined
      : createStoreIndexer(
          {
            store,
            index,
            inStore,
            isBusy,
            // Its size on disk is that of the most that was ever written at once.
            wrote: () => void bestEffort(() => db.exec('PRAGMA wal_checkpoint(TRUNCATE)')),
            clock: () => performance.now(),
          },
          { bytesPerSecond: indexRate },
        )
  return {
    holdings: createHoldings({
      policy,
      table,
      index,
      blocks,
      inStore,
      wanted: (nar) => indexer?.want(nar),
    }),
    indexer,
    close: () => reads.close(),
  }
}
