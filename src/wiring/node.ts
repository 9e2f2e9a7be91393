/** One narswarm, put together. */
import type { NarswarmNode, NodeDeps, Serving } from '../cli/node.ts'
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import { createPeerBudgets } from '../http/peer-budgets.ts'
import { formatPublicKey } from '../nix/key.ts'
import { openDailyBudget } from '../operations/daily-budget.ts'
import { createOperations } from '../operations/local-operations.ts'
import type { Operations } from '../operations/operations.ts'
import { describeBlocks, describeFetched, describeNars, describeSources } from '../operations/bytes-report.ts'
import { describeSpool, describeUploads, describeUpstream } from '../operations/status.ts'
import type { StatusDocument } from '../operations/status.ts'
import { createRelay } from '../operations/relay.ts'
import { createWireCount } from '../operations/wire-count.ts'
import { createPublisher } from '../publish/publish.ts'
import { cacheUrl, createDoors } from './doors.ts'
import { createEngine } from './engine.ts'
import { openFeeds } from './feeds.ts'
import { createSharing } from './sharing.ts'
import { openState } from './state.ts'
import { createNeighbours } from './neighbours.ts'
import { createSwarm } from './swarm.ts'

export async function openNode(config: Config, version: string, { log }: NodeDeps): Promise<NarswarmNode> {
  const { storeDir } = config
  const clock = Date.now
  const started = new Date(clock()).toISOString().replace(/\.\d+Z$/, 'Z')
  const state = await openState(config, { log, clock })
  const feeds = await openFeeds(config, state, { log, clock })
  const swarm = createSwarm(config, state, { log })
  const neighbours = createNeighbours(config, { state, swarm }, { log, clock })
  const [got, given] = [createWireCount(), createWireCount()]
  const engine = createEngine(config, { state, feeds, swarm, neighbours }, { got, log, clock })
  const isBusy = (): boolean => engine.transfers.running() + doors.answering() > 0
  const sharing = createSharing(config, state, { isBusy, log, clock })
  const { index, table, store, spool, keeper, sharePolicy } = state
  const { upstreams, openCache, blockSources, scores, resolver, transfers, auditor, explain } = engine
  const { follower, published, feedPlace, feedDeps } = feeds
  const relay =
    config.upgrade.relay === undefined
      ? undefined
      : createRelay({
          upstreams,
          policy: sharePolicy,
          holdings: sharing.holdings,
          resolver,
          transfers,
          budget: openDailyBudget(
            { db: state.feedDb, clock, monotonic: () => performance.now() },
            { table: 'relay_day', maxBytes: config.upgrade.relay.maxBytesPerDay },
          ),
          spoolBytes: () => spool.usage().maxBytes,
          clock: () => performance.now(),
          log,
        })
  const budgets = createPeerBudgets({ clock: () => performance.now(), log })
  let serving: Serving | undefined

  const describe = (): Omit<StatusDocument, 'feeds' | 'audit'> => ({
    version: 1,
    narswarm: version,
    profile: config.profile,
    started,
    cache: { url: serving?.cacheUrl ?? cacheUrl(config.cache.listen), priority: config.cache.priority },
    ...(serving?.peerUrl === undefined ? {} : { peer: { url: serving.peerUrl } }),
    ...(serving?.swarm === undefined
      ? {}
      : { swarm: { peer_id: serving.swarm.peerId, addrs: serving.swarm.addrs } }),
    trusted_keys: config.trust.keys.map(formatPublicKey),
    share_keys: config.share.keys.map(formatPublicKey),
    upstreams: upstreams.map((one) =>
      describeUpstream(one, config.origins.get('upstreams') ?? 'default', clock()),
    ),
    peers: blockSources().map(({ id }) => id),
    spool: describeSpool(spool.usage(), spool.freeBytes()),
    ...(sharing.indexer === undefined ? {} : { store: sharing.indexer.status() }),
    transfers: { running: transfers.running() },
    nars: describeNars(transfers.counts()),
    fetched: describeFetched(transfers.counts()),
    sources: describeSources(scores),
    blocks: describeBlocks(got, given),
    ...(relay === undefined ? {} : { relay: relay.status() }),
    ...(shares(config)
      ? { uploads: describeUploads(swarm.upload.total(), config.share.upload, budgets.report()) }
      : {}),
  })
  const operations: Operations = createOperations(
    {
      publisher: createPublisher({ policy: sharePolicy, table, spool, index, store }, { storeDir }),
      feeds: published,
      store,
      openCache,
      feedPlace,
      feedDeps,
      follower,
      resolver,
      transfers,
      auditor,
      explain,
      neighbours: neighbours.table,
      spool: { spool, index, keeper, log },
      describe,
    },
    { storeDir },
  )
  const doors = createDoors(
    config,
    version,
    { state, feeds, swarm, neighbours, engine, budgets, sharing, relay, operations },
    { log, given },
  )

  return {
    operations,
    async serve() {
      serving = await doors.open()
      return serving
    },
    async close(graceMs) {
      await doors.close(graceMs)
      relay?.close()
      transfers.close()
      await neighbours.close()
      sharing.close()
      await swarm.close()
      await Promise.all([engine.close(), feeds.close()])
      state.close()
    },
  }
}
