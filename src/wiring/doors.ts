/** The listeners, and what a serving narswarm does by itself. */
import { accessSync, constants } from 'node:fs'
import { adminSocketPath } from '../cli/connect.ts'
import type { Serving } from '../cli/node.ts'
import { formatHostPort } from '../config/address.ts'
import type { Config } from '../config/config.ts'
import { isLanAddress } from '../config/ip-address.ts'
import { createAdminApp } from '../http/admin-app.ts'
import { createCacheApp } from '../http/cache-app.ts'
import { createLeafCoder } from '../http/leaf-coder.ts'
import type { PeerBudgets } from '../http/peer-budgets.ts'
import { createPeerApp } from '../http/peer-app.ts'
import { listen } from '../http/server.ts'
import type { ListenAddress, Listener } from '../http/server.ts'
import type { Log } from '../log.ts'
import { formatPublicKey } from '../nix/key.ts'
import {
  keepAuditing,
  keepChecking,
  keepFollowing,
  keepIndexing,
  keepPruning,
  keepReviewing,
  keepSigning,
  keepTidy,
} from '../operations/background.ts'
import type { Operations } from '../operations/operations.ts'
import type { Relay } from '../operations/relay.ts'
import type { WireCount } from '../operations/wire-count.ts'
import { notReady } from '../operations/readiness.ts'
import { createNarsUnderWay } from '../publish/under-way.ts'
import { createNarLister } from '../substitute/list-nar.ts'
import { createNarInfoTexts } from '../substitute/narinfo-texts.ts'
import type { Engine } from './engine.ts'
import type { NodeFeeds } from './feeds.ts'
import type { NodeNeighbours } from './neighbours.ts'
import type { NodeSharing } from './sharing.ts'
import type { NodeState } from './state.ts'
import type { NodeSwarm } from './swarm.ts'

export interface Doors {
  /** Once. */
  open(): Promise<Serving>
  /** Answers under way, at all listeners. */
  answering(): number
  /** Gives responses under way `graceMs`. */
  close(graceMs: number): Promise<void>
}

const LOCAL_HOSTS = ['127.0.0.1', 'localhost', '[::1]']

export function createDoors(
  config: Config,
  version: string,
  parts: {
    state: NodeState
    feeds: NodeFeeds
    swarm: NodeSwarm
    neighbours: NodeNeighbours
    engine: Engine
    budgets: PeerBudgets
    sharing: NodeSharing
    relay: Relay | undefined
    operations: Operations
  },
  { log, given }: { log: Log; given: WireCount },
): Doors {
  const { storeDir, stateDir } = config
  const { state, feeds, swarm, neighbours, engine, budgets, sharing, relay, operations } = parts
  const { table, spool, blocks, keeper, shareReview } = state
  const { upstreams, resolver, transfers, auditor } = engine
  const formatAnswer = createNarInfoTexts({ storeDir })
  const listeners: Listener[] = []
  const timers = new AbortController()
  const { signal } = timers

  const cacheApp = (): ReturnType<typeof createCacheApp> =>
    createCacheApp(
      {
        resolver,
        transfers,
        lister: createNarLister(transfers),
        upstreams,
        formatAnswer,
        status: () => operations.status({ signal }),
        metrics: async () => ({
          status: await operations.status({ signal }),
          peers: await operations.peers({ signal }),
        }),
        notReady: () =>
          notReady({
            trustedKeys: config.trust.keys.length,
            threshold: config.trust.threshold,
            sources: upstreams.length + config.feeds.length + engine.local.length,
            stateDir,
            checkWritable: (dir) => accessSync(dir, constants.W_OK),
          }),
        page: () => ({
          profile: config.profile,
          upstreams: upstreams.map(({ url }) => url.href),
          trustedKeys: config.trust.keys.map(formatPublicKey),
          facts: [['NARs in the spool', `${spool.totals().count}, ${spool.totals().bytes} bytes`]],
        }),
        log,
      },
      {
        storeDir,
        priority: config.cache.priority,
        allowedHosts: [...LOCAL_HOSTS, ...config.cache.allowedHosts],
        version,
      },
    )

  const peerApp = (): ReturnType<typeof createPeerApp> =>
    createPeerApp(
      {
        holdings: sharing.holdings,
        underWay: createNarsUnderWay({
          underWay: transfers.underWay,
          shareable: engine.shareable,
          clock: () => performance.now(),
          self: () => swarm.ownId,
        }),
        blocks,
        coder: createLeafCoder(),
        given,
        feeds: feeds.files,
        budgets,
        upload: swarm.upload,
        relay,
        formatAnswer,
        log,
      },
      { storeDir, priority: config.cache.priority },
    )

  const opened = async (
    app: Parameters<typeof listen>[0],
    address: Parameters<typeof listen>[1],
    accepts: (address: string) => boolean = () => true,
  ): Promise<Listener> => {
    const listener = await listen(app, address, { log, accepts })
    listeners.push(listener)
    return listener
  }

  return {
    async open() {
      for (const warning of config.warnings) log.warn({}, warning)
      if (config.share.upload === 0 && config.profile !== 'private') {
        log.info({}, 'share.upload is 0: others get nothing from here, and there is no listener for them')
      }
      const accepts = (address: string): boolean => {
        if (config.profile !== 'lan' || isLanAddress(address)) return true
        log.debug({ address }, 'profile lan: a connection from outside of the LAN was closed')
        return false
      }
      const answers = config.profile !== 'private' || neighbours.table.named().length > 0
      const node = answers ? await swarm.start(true) : undefined
      const cache = await opened(cacheApp(), config.cache.listen)
      const peer =
        config.peer === undefined ? undefined : await opened(peerApp(), config.peer.listen, accepts)
      await neighbours.start(node, peer !== undefined && 'port' in peer.address ? peer.address.port : 0)
      // Last, so that `status` tells of listeners that are open.
      await opened(createAdminApp({ operations, log }), { path: adminSocketPath(config) })
      for (const upstream of upstreams) void keepChecking(upstream, log, signal)
      void keepFollowing(feeds.follower, log, signal)
      void keepSigning(feeds.published, log, signal)
      void keepPruning(table, log, signal)
      void keepTidy(keeper, log, signal)
      void keepReviewing(shareReview, log, signal)
      if (config.audit.maxBytesPerDay > 0) void keepAuditing(auditor, log, signal)
      if (sharing.indexer !== undefined) void keepIndexing(sharing.indexer, log, signal)
      return {
        cacheUrl: cacheUrl(cache.address),
        ...(peer === undefined ? {} : { peerUrl: cacheUrl(peer.address) }),
        ...(node === undefined ? {} : { swarm: { peerId: node.peerId, addrs: node.addrs() } }),
      }
    },
    answering: () => listeners.reduce((sum, listener) => sum + listener.answering(), 0),
    async close(graceMs) {
      timers.abort()
      await Promise.all(listeners.map((listener) => listener.close(graceMs)))
    },
  }
}

export function cacheUrl(address: ListenAddress): string {
  return 'path' in address ? address.path : `http://${formatHostPort(address)}`
}
