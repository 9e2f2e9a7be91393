/** resolve and transfer, and every source they ask. */
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import { createYoungCollector } from '../config/garbage-collector.ts'
import type { Log } from '../log.ts'
import { openAuditMemory } from '../operations/audit-memory.ts'
import { createAuditor } from '../operations/auditor.ts'
import type { Auditor } from '../operations/auditor.ts'
import { openDailyBudget } from '../operations/daily-budget.ts'
import { createExplain } from '../operations/explain.ts'
import type { Explain } from '../operations/explain.ts'
import type { WireCount } from '../operations/wire-count.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { isNeighbour } from '../source.ts'
import type { BlockSource, NarInfoSource } from '../source.ts'
import { storeNarInfos } from '../store/narinfo-source.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import { createNameIndex } from '../store/name-index.ts'
import { createOlderLeaves } from '../substitute/older-leaves.ts'
import { planRelay } from '../substitute/relayed-way.ts'
import { createResolver } from '../substitute/resolve.ts'
import type { Resolver } from '../substitute/resolve.ts'
import { createRewriting } from '../substitute/rewriting.ts'
import { createRootJudge } from '../substitute/root-judge.ts'
import { createScores } from '../substitute/scores.ts'
import type { Scores } from '../substitute/scores.ts'
import { createSurvey } from '../substitute/survey.ts'
import { createTransfers } from '../substitute/transfers.ts'
import type { Transfers } from '../substitute/transfers.ts'
import { createAlongFinder } from '../swarm/along-finder.ts'
import { lazyBitswap } from '../swarm/lazy-bitswap.ts'
import { createNeighbourSources } from '../swarm/neighbour-sources.ts'
import { createRelayFinder } from '../swarm/relay-finder.ts'
import { createHosts } from '../upstream/host.ts'
import { createUpstream } from '../upstream/upstream.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { createXzThreads } from '../upstream/xz-threads.ts'
import type { NodeFeeds } from './feeds.ts'
import type { NodeNeighbours } from './neighbours.ts'
import type { NodeState } from './state.ts'
import type { NodeSwarm } from './swarm.ts'

export interface Engine {
  readonly upstreams: readonly Upstream[]
  /** A cache that the configuration does not name, such as one to publish from. */
  readonly openCache: (url: URL) => Upstream
  /** Sources of narinfos on this machine. */
  readonly local: readonly NarInfoSource[]
  /** Those that may be asked for blocks now. */
  readonly blockSources: () => readonly BlockSource[]
  readonly scores: Scores
  readonly resolver: Resolver
  readonly transfers: Transfers
  /** Whether others may have it. */
  readonly shareable: (info: NarInfo) => boolean
  readonly auditor: Auditor
  readonly explain: Explain
  close(): Promise<void>
}

export function createEngine(
  config: Config,
  parts: { state: NodeState; feeds: NodeFeeds; swarm: NodeSwarm; neighbours: NodeNeighbours },
  { got, log, clock }: { got: WireCount; log: Log; clock: () => number },
): Engine {
  const { storeDir } = config
  const { state, swarm } = parts
  const { feedDb, index, knownLeaves, table, store, spool, blocks, policy, sharePolicy } = state
  const { follower } = parts.feeds
  /** For how long something took or may take: the wall clock may be set meanwhile. */
  const stopwatch = (): number => performance.now()

  const xzThreads = createXzThreads()
  const hosts = createHosts({ log, clock: stopwatch, random: Math.random })
  const openCache = (url: URL): Upstream => createUpstream({ url, storeDir }, { log, hosts, xzThreads })
  const upstreams = config.upstreams.map(openCache)
  const near = createNeighbourSources(
    {
      neighbours: parts.neighbours.table,
      forgiven: (id) => scores.forgiven(id),
      xzThreads,
      clock: stopwatch,
      random: Math.random,
      log,
    },
    { storeDir },
  )
  const bitswap = config.peers.addrs.map((address) => lazyBitswap(address, () => swarm.start(false)))

  const local = store === undefined ? [] : [storeNarInfos(store)]
  const scores = createScores({
    clock: stopwatch,
    listener: near.verdicts,
    got,
  })
  const isPublic = (info: VerifiedNarInfo): boolean =>
    sharePolicy.allows(info) || resolver.offer(info).roots.some(({ from }) => from.startsWith('feed:'))
  const mayAskNear = (info: VerifiedNarInfo | undefined): boolean =>
    config.lan.ask === 'all' || (info !== undefined && isPublic(info))
  const blockSources = (info?: VerifiedNarInfo): readonly BlockSource[] => [
    ...(mayAskNear(info) ? near.blocks() : []),
    ...bitswap,
  ]
  const narInfos = {
    policy,
    table,
    sources: [...local, ...follower.sources(), ...upstreams],
    neighbours: (info?: VerifiedNarInfo) => (mayAskNear(info) ? near.narInfos() : []),
  }
  const resolver = createResolver({
    ...narInfos,
    forged: (from, reason) => near.verdicts.lied(from, reason),
    log,
  })
  const shareable = (info: NarInfo): boolean => shares(config) && sharePolicy.allows(info)
  const names = store && createNameIndex(store.registered, { log })
  const upgrades =
    store && names && config.upgrade.rewrite
      ? { names, rewriting: createRewriting({ store, names, clock: stopwatch, log }) }
      : undefined
  const along = createAlongFinder({
    neighbours: parts.neighbours.table,
    // Nobody asks one that does not listen.
    self: () => (config.peer === undefined ? undefined : swarm.ownId),
    usable: (id) => scores.usable(id),
    clock: stopwatch,
    log,
  })
  // One that is near the upstreams itself has nothing to gain, and two would ask each other.
  const relays =
    config.upgrade.relay === undefined
      ? createRelayFinder({ neighbours: parts.neighbours.table, clock: stopwatch, log }, { storeDir })
      : undefined
  const relaysFor = (info: VerifiedNarInfo): typeof relays => (sharePolicy.allows(info) ? relays : undefined)
  const olderLeaves =
    store &&
    names &&
    createOlderLeaves({ store, names, index, blocks, mayName: (info) => sharePolicy.allows(info), log })
  const transfers = createTransfers({
    resolver,
    spool,
    index: knownLeaves,
    blocks,
    store,
    blockSources,
    rewriting: upgrades?.rewriting,
    olderLeaves,
    scores,
    shareable,
    // What none may have from us is none of their business either.
    along: (info) => (sharePolicy.allows(info) ? along : undefined),
    relays: relaysFor,
    badRoot: (info, way) => {
      if (way.kind !== 'blocks') return
      if (isNeighbour(way.told)) {
        near.verdicts.lied(way.told, `told a CID of NAR ${info.narHash} that is not its own`)
        return
      }
      follower.markBad(info.narHash, way.root, { told: way.told, storePath: info.storePath })
    },
    received: createYoungCollector(),
    clock: stopwatch,
    log,
  })
  const auditor = createAuditor(
    {
      follower,
      policy,
      resolver,
      transfers,
      index,
      judge: createRootJudge({
        resolver,
        transfers,
        blockSources,
        scores,
        clock: stopwatch,
        log,
      }),
      memory: openAuditMemory({ db: feedDb, clock }),
      budget: openDailyBudget(
        { db: feedDb, clock, monotonic: stopwatch },
        { table: 'audit_day', maxBytes: config.audit.maxBytesPerDay },
      ),
      random: Math.random,
      clock,
      log,
    },
    { storeDir },
  )
  return {
    upstreams,
    openCache,
    local,
    blockSources: () => [...near.blocks(), ...bitswap],
    scores,
    resolver,
    transfers,
    shareable,
    auditor,
    explain: createExplain(
      {
        survey: createSurvey(narInfos),
        spool,
        index,
        store,
        upgrades,
        relayed(info) {
          const finder = relaysFor(info)
          return finder && olderLeaves && planRelay(info, { finder, older: olderLeaves })
        },
        blockSources,
        scores,
        clock: stopwatch,
        log,
      },
      { storeDir },
    ),
    async close() {
      names?.close()
      await Promise.all([near, along, ...upstreams].map((one) => one.close()))
      await relays?.close()
    },
  }
}
