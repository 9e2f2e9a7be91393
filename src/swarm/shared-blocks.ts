import type { Log } from '../log.ts'
import { openLeafIndex } from '../spool/leaf-index.ts'
import { createLocalBlocks } from '../spool/local-blocks.ts'
import { openSpool } from '../spool/spool.ts'
import { openDatabase } from '../state/database.ts'
import { StoreUnavailableError } from '../store/errors.ts'
import type { LocalStore } from '../store/local-store.ts'
import { openLocalStore } from '../store/local-store.ts'
import type { SharedBlocks } from './blockstore.ts'
import { NO_BLOCKS } from './blockstore.ts'
import type { ServeConfig } from './worker-protocol.ts'

/**
 * The blocks of scope 'shared', through handles of the worker's own, all read-only; the main thread writes. Its database
 * and tables must be there already.
 *
 * @throws StateFileError
 */
export async function openSharedBlocks(
  config: ServeConfig | undefined,
  log: Log,
): Promise<{ readonly blocks: SharedBlocks; close(): void }> {
  if (config === undefined) return { blocks: NO_BLOCKS, close() {} }
  const db = openDatabase(config.stateDb, { readOnly: true })
  const store = config.store === undefined ? undefined : openStore(config.store, log)
  const spool = await openSpool({ db, dir: config.spoolDir, log, readOnly: true })
  const local = createLocalBlocks({
    index: openLeafIndex(db),
    spool,
    log,
    ...(store === undefined ? {} : { store }),
  })
  return {
    blocks: {
      has: (cid) => local.size(cid, 'shared') !== undefined,
      read: (cid, options) => local.get(cid, 'shared', options),
    },
    close() {
      store?.close()
      db.close()
    },
  }
}

/** The spool alone is served where there is no Nix store; the main thread has told so in the log. */
function openStore(config: NonNullable<ServeConfig['store']>, log: Log): LocalStore | undefined {
  try {
    return openLocalStore(config, { log })
  } catch (error) {
    if (error instanceof StoreUnavailableError) return undefined
    throw error
  }
}
