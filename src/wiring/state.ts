/** What lies in the state directory and in the Nix store: databases, spool, index, and who may have what of it. */
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import { trustedKeys } from '../nix/key.ts'
import { openAskedPaths } from '../publish/asked-paths.ts'
import type { AskedPaths } from '../publish/asked-paths.ts'
import { createSharePolicy } from '../publish/share-policy.ts'
import type { SharePolicy } from '../publish/share-policy.ts'
import { openShareReview } from '../publish/share-review.ts'
import type { ShareReview } from '../publish/share-review.ts'
import { forgetfulIndex } from '../spool/forgetful-index.ts'
import { createIndexRelease, createSpoolKeeper } from '../spool/keeper.ts'
import type { SpoolKeeper } from '../spool/keeper.ts'
import { openLeafIndex } from '../spool/leaf-index.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import { createLocalBlocks } from '../spool/local-blocks.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import { spoolLimits } from '../spool/quota.ts'
import { openSpool } from '../spool/spool.ts'
import type { Spool } from '../spool/spool.ts'
import { createBestEffort } from '../state/best-effort.ts'
import type { BestEffort } from '../state/best-effort.ts'
import { openCacheDatabase, openPreciousDatabase } from '../state/cache-database.ts'
import { lockStateDir } from '../state/lock.ts'
import { StoreUnavailableError } from '../store/errors.ts'
import { openLocalStore } from '../store/local-store.ts'
import type { LocalStore } from '../store/local-store.ts'
import { createNarInfoTable } from '../substitute/narinfo-table.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import { createPolicy } from '../substitute/policy.ts'
import type { Policy } from '../substitute/policy.ts'
import { openNeighbourRows } from '../swarm/neighbour-rows.ts'
import type { NeighbourRows } from '../swarm/neighbour-rows.ts'

export interface NodeState {
  readonly stateDb: string
  readonly spoolDir: string
  readonly keysDir: string
  readonly db: DatabaseSync
  readonly bestEffort: BestEffort
  readonly feedDb: ReturnType<typeof openPreciousDatabase>
  readonly index: LeafIndex
  /** The index for who only adds to it what it may as well do without. */
  readonly knownLeaves: LeafIndex
  readonly table: NarInfoTable
  readonly asked: AskedPaths
  readonly neighbourRows: NeighbourRows
  readonly store: LocalStore | undefined
  readonly spool: Spool
  readonly blocks: LocalBlocks
  readonly keeper: SpoolKeeper
  /** Verifies by the trusted keys. */
  readonly policy: Policy
  readonly sharePolicy: SharePolicy
  readonly shareReview: ShareReview
  close(): void
}

/** Locks the state directory until `close`. */
export async function openState(
  config: Config,
  { log, clock }: { log: Log; clock: () => number },
): Promise<NodeState> {
  const { stateDir, storeDir } = config
  const lock = lockStateDir(stateDir)
  const stateDb = join(stateDir, 'state.sqlite')
  const spoolDir = join(stateDir, 'spool')
  const bestEffort = createBestEffort({ log, clock })
  const { db, index, table, asked, neighbourRows } = openCacheDatabase(stateDb, { log }, (opened) => ({
    index: openLeafIndex(opened),
    table: createNarInfoTable({ db: opened, clock, log }, { storeDir }),
    asked: openAskedPaths({ db: opened, bestEffort }),
    neighbourRows: openNeighbourRows(opened),
  }))
  const feedDb = openPreciousDatabase(join(stateDir, 'feeds.sqlite'))
  const knownLeaves = forgetfulIndex(index, bestEffort)

  const store = openStore(config, log)
  const spool = await openSpool({
    db,
    dir: spoolDir,
    log,
    clock,
    limits: spoolLimits(stateDir, config.spool),
    evicted: createIndexRelease(knownLeaves, store),
  })
  const { deny } = config.share
  const sharePolicy = createSharePolicy({ keys: trustedKeys(config.share.keys), deny, storeDir })
  const shareReview = openShareReview(
    { db, index, table, store, policy: sharePolicy, log },
    { shares: shares(config) },
  )
  return {
    stateDb,
    spoolDir,
    keysDir: join(stateDir, 'keys'),
    db,
    bestEffort,
    feedDb,
    index,
    knownLeaves,
    table,
    asked,
    neighbourRows,
    store,
    spool,
    blocks: createLocalBlocks({ index, spool, log, ...(store === undefined ? {} : { store }) }),
    keeper: createSpoolKeeper({
      spool,
      index: knownLeaves,
      store,
      pathsOf: (narHash) => table.byNarHash(narHash).map(({ storePath }) => storePath),
      clock,
      log,
    }),
    policy: createPolicy({
      keys: trustedKeys(config.trust.keys),
      threshold: config.trust.threshold,
      storeDir,
    }),
    sharePolicy,
    shareReview,
    close() {
      store?.close()
      feedDb.close()
      db.close()
      lock.release()
    },
  }
}

/** A machine without Nix has none, and that is no error: bytes then come from the spool alone. */
function openStore(config: Config, log: Log): LocalStore | undefined {
  const { storeDir, storeRoot } = config
  try {
    return openLocalStore({ storeDir, ...(storeRoot === undefined ? {} : { root: storeRoot }) }, { log })
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error
    log.info({}, `no local Nix store: ${error.message}`)
    return undefined
  }
}
