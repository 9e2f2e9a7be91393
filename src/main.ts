/** Wiring, and nothing else. Everything is made here and handed in; no other part of the program makes its own parts. */
import { randomBytes } from 'node:crypto'
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { adminSocketPath } from './cli/connect.ts'
import { createLog } from './cli/log.ts'
import type { NarswarmNode, NodeDeps, Serving } from './cli/node.ts'
import { runCli } from './cli/program.ts'
import { formatHostPort } from './config/address.ts'
import type { Config } from './config/config.ts'
import { tuneGarbageCollector } from './config/garbage-collector.ts'
import { loadConfig } from './config/load.ts'
import { createPublishedFiles } from './feed/feed-files.ts'
import { feedFileStem, feedNameOfStem, parseFeedName } from './feed/feed-name.ts'
import type { FeedName } from './feed/feed-name.ts'
import { createFollower } from './feed/follower.ts'
import { openPublisher } from './feed/publisher.ts'
import type { Publisher as FeedPublisher } from './feed/publisher.ts'
import { createAdminApp } from './http/admin-app.ts'
import { createCacheApp } from './http/cache-app.ts'
import { createPeerApp } from './http/peer-app.ts'
import { listen } from './http/server.ts'
import type { ListenAddress, Listener } from './http/server.ts'
import { CONFIG_MAX_BYTES } from './limits.ts'
import type { Log } from './log.ts'
import { formatPublicKey, trustedKeys } from './nix/key.ts'
import {
  keepAuditing,
  keepChecking,
  keepFollowing,
  keepPruning,
  keepSigning,
  keepTidy,
} from './operations/background.ts'
import { openAuditBudget } from './operations/audit-budget.ts'
import { openAuditMemory } from './operations/audit-memory.ts'
import { createAuditor } from './operations/auditor.ts'
import { createOperations } from './operations/local-operations.ts'
import { notReady } from './operations/readiness.ts'
import { describeSpool, describeUpstream } from './operations/status.ts'
import type { StatusDocument } from './operations/status.ts'
import { createHoldings } from './publish/holdings.ts'
import { createPublisher } from './publish/publish.ts'
import { reviewSharing } from './publish/share-review.ts'
import type { BlockSource } from './source.ts'
import { forgetfulIndex } from './spool/forgetful-index.ts'
import { createIndexRelease, createSpoolKeeper } from './spool/keeper.ts'
import { openLeafIndex } from './spool/leaf-index.ts'
import { createLocalBlocks } from './spool/local-blocks.ts'
import { spoolLimits } from './spool/quota.ts'
import { openSpool } from './spool/spool.ts'
import { createBestEffort } from './state/best-effort.ts'
import { openCacheDatabase, openPreciousDatabase } from './state/cache-database.ts'
import { lockStateDir } from './state/lock.ts'
import { StoreUnavailableError } from './store/errors.ts'
import { openLocalStore } from './store/local-store.ts'
import type { LocalStore } from './store/local-store.ts'
import { storeNarInfos } from './store/narinfo-source.ts'
import { createNarLister } from './substitute/list-nar.ts'
import { createNarInfoTexts } from './substitute/narinfo-texts.ts'
import { createNarInfoTable } from './substitute/narinfo-table.ts'
import { createPolicy } from './substitute/policy.ts'
import { createResolver } from './substitute/resolve.ts'
import { createRootJudge } from './substitute/root-judge.ts'
import { createScores } from './substitute/scores.ts'
import { createTransfers } from './substitute/transfers.ts'
import { createGatewaySource } from './swarm/gateway-source.ts'
import { lazyBitswap } from './swarm/lazy-bitswap.ts'
import { startSwarmNode } from './swarm/node.ts'
import type { SwarmNode } from './swarm/node.ts'
import { createFeedPipe } from './upstream/feed-pipe.ts'
import { createHosts } from './upstream/host.ts'
import { createUpstream } from './upstream/upstream.ts'
import { createXzThreads } from './upstream/xz-threads.ts'

interface Program {
  readonly name: string
  readonly version: string
}

const LOCAL_HOSTS = ['127.0.0.1', 'localhost', '[::1]']

/** Runs one command; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  tuneGarbageCollector()
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Program
  process.exitCode = await runCli(argv, {
    env: process.env,
    cwd: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    version,
    command: [process.execPath, ...process.argv.slice(1, 2)],
    randomBytes,
    loadConfig: (input) =>
      loadConfig({ ...input, env: process.env, read: readText, isRoot: process.getuid?.() === 0 }),
    createLog: (config) => createLog(config.log, process.stderr),
    openNode: (config, deps) => openNode(config, version, deps),
    onSignal(listener) {
      const names = ['SIGINT', 'SIGTERM'] as const
      const listeners = names.map((name) => [name, () => listener(name)] as const)
      for (const [name, one] of listeners) process.on(name, one)
      return () => {
        for (const [name, one] of listeners) process.off(name, one)
      }
    },
    exit: (code) => process.exit(code),
  })
}

async function openNode(config: Config, version: string, { log }: NodeDeps): Promise<NarswarmNode> {
  const { stateDir, storeDir } = config
  const clock = Date.now
  /** For how long something took or may take: the wall clock may be set meanwhile. */
  const stopwatch = (): number => performance.now()
  const started = new Date(clock()).toISOString().replace(/\.\d+Z$/, 'Z')

  const lock = lockStateDir(stateDir)
  const stateDb = join(stateDir, 'state.sqlite')
  const spoolDir = join(stateDir, 'spool')
  const keysDir = join(stateDir, 'keys')
  const bestEffort = createBestEffort({ log, clock })
  const { db, index, table } = openCacheDatabase(stateDb, { log }, (opened) => ({
    index: openLeafIndex(opened),
    table: createNarInfoTable({ db: opened, clock, log }, { storeDir }),
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
  const blocks = createLocalBlocks({ index, spool, log, ...(store === undefined ? {} : { store }) })
  const keeper = createSpoolKeeper({
    spool,
    index: knownLeaves,
    store,
    pathsOf: (narHash) => table.byNarHash(narHash).map(({ storePath }) => storePath),
    clock,
    log,
  })
  const shareKeys = trustedKeys(config.share.keys)
  const policy = createPolicy({
    keys: trustedKeys(config.trust.keys),
    threshold: config.trust.threshold,
    storeDir,
  })
  const sharePolicy = createPolicy({ keys: shareKeys, threshold: 1, storeDir })
  reviewSharing({ db, index, table, policy: sharePolicy, log }, shareKeys)
  const formatAnswer = createNarInfoTexts({ storeDir })

  const pipes = config.feeds.flatMap(({ name, sources }) =>
    sources.map((url) => ({ name, pipe: createFeedPipe(url, name) })),
  )
  const follower = createFollower(
    { db: feedDb, clock, log, storeDir },
    {
      feeds: config.feeds.map(({ name, rootKey }) => ({
        name,
        rootKey,
        sources: pipes.filter((one) => one.name === name).map(({ pipe }) => pipe),
      })),
    },
  )
  const feedPlace = (name: string): { dir: string; keysDir: string; storeDir: string } => ({
    dir: join(stateDir, 'feeds', feedFileStem(parseFeedName(name))),
    keysDir,
    storeDir,
  })
  const feedDeps = { clock, log, randomBytes }
  const published = new Map<FeedName, FeedPublisher>()
  for (const name of await publishedNames(join(stateDir, 'feeds'))) {
    published.set(name, await openPublisher({ name, ...feedPlace(name) }, feedDeps))
  }

  const xzThreads = createXzThreads()
  const hosts = createHosts({ log, clock: stopwatch, random: Math.random })
  const upstreams = config.upstreams.map((url) =>
    createUpstream({ url, storeDir }, { log, hosts, xzThreads }),
  )
  let swarmStart: Promise<SwarmNode> | undefined
  /** On first use, or when serving begins: a command that ends needs no node. */
  const swarm = (answer: boolean): Promise<SwarmNode> =>
    (swarmStart ??= startSwarmNode(
      {
        keyFile: join(stateDir, 'libp2p', 'key'),
        listen: answer ? config.swarm.listen : [],
        ...(answer && config.profile !== 'private' ? { serve: serveConfig() } : {}),
      },
      { log },
    ))
  const serveConfig = (): {
    stateDb: string
    spoolDir: string
    store?: { storeDir: string; root?: string }
  } => ({
    stateDb,
    spoolDir,
    ...(store === undefined
      ? {}
      : { store: { storeDir, ...(config.storeRoot === undefined ? {} : { root: config.storeRoot }) } }),
  })
  const gateways = config.peers.urls.map((url) => createGatewaySource({ url: url.href.replace(/\/$/, '') }))
  const blockSources: BlockSource[] = [
    ...gateways,
    ...config.peers.addrs.map((address) => lazyBitswap(address, () => swarm(false))),
  ]

  const local = store === undefined ? [] : [storeNarInfos(store)]
  const scores = createScores({ clock: stopwatch })
  const resolver = createResolver({
    policy,
    table,
    sources: [...local, ...follower.sources(), ...upstreams],
    log,
  })
  const transfers = createTransfers({
    resolver,
    spool,
    index: knownLeaves,
    blocks,
    store,
    blockSources,
    scores,
    shareable: (info) => config.profile !== 'private' && sharePolicy.signedBy(info, shareKeys),
    badRoot: (info, way) => {
      if (way.kind !== 'blocks') return
      follower.markBad(info.narHash, way.root, { told: way.told, storePath: info.storePath })
    },
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
      judge: createRootJudge({ resolver, transfers, blockSources, scores, clock: stopwatch, log }),
      memory: openAuditMemory({ db: feedDb, clock }),
      budget: openAuditBudget({ db: feedDb, clock, monotonic: stopwatch }, config.audit.maxBytesPerDay),
      random: Math.random,
      clock,
      log,
    },
    { storeDir },
  )
  const listeners: Listener[] = []
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
    peers: blockSources.map(({ id }) => id),
    spool: describeSpool(spool.usage(), spool.freeBytes()),
    transfers: { running: transfers.running() },
    // A root is no source; its ways have scores too.
    sources: [...scores.all()]
      .filter(([id]) => !id.startsWith('blocks:'))
      .map(([id, score]) => ({
        id,
        bytes: score.bytes,
        ...(score.averageMs === undefined ? {} : { average_ms: Math.round(score.averageMs) }),
        faults: score.faults,
        lies: score.lies,
        out: !scores.usable(id),
      })),
  })
  const operations = createOperations(
    {
      publisher: createPublisher(
        { policy: sharePolicy, table, spool, index, store },
        { shareKeys, storeDir },
      ),
      feeds: published,
      store,
      openCache: (url) => createUpstream({ url, storeDir }, { log, hosts, xzThreads }),
      feedPlace,
      feedDeps,
      follower,
      resolver,
      transfers,
      auditor,
      spool: { spool, index, keeper, log },
      describe,
    },
    { storeDir },
  )
  const timers = new AbortController()

  async function serve(): Promise<Serving> {
    for (const warning of config.warnings) log.warn({}, warning)
    const node = config.profile !== 'private' || config.peers.addrs.length > 0 ? await swarm(true) : undefined
    const cache = createCacheApp(
      {
        resolver,
        transfers,
        lister: createNarLister(transfers),
        upstreams,
        formatAnswer,
        status: () => operations.status({ signal: timers.signal }),
        notReady: () =>
          notReady({
            trustedKeys: config.trust.keys.length,
            threshold: config.trust.threshold,
            sources: upstreams.length + config.feeds.length + local.length,
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
    const cacheListener = await listen(cache, config.cache.listen, { log })
    listeners.push(cacheListener)
    let peerUrl: string | undefined
    if (config.peer !== undefined) {
      // Looked up anew each time: feeds are created while we serve.
      const folders = (): Map<FeedName, string> =>
        new Map([...published.keys()].map((name) => [name, feedPlace(name).dir]))
      const peer = createPeerApp(
        {
          holdings: createHoldings({ policy: sharePolicy, table, index, blocks }),
          blocks,
          feeds: {
            read: async (name, path) =>
              (await createPublishedFiles(folders()).read(name, path)) ?? follower.files.read(name, path),
          },
          formatAnswer,
          log,
        },
        { storeDir, priority: config.cache.priority },
      )
      const peerListener = await listen(peer, config.peer.listen, { log })
      listeners.push(peerListener)
      peerUrl = cacheUrl(peerListener.address)
    }
    listeners.push(
      await listen(createAdminApp({ operations, log }), { path: adminSocketPath(config) }, { log }),
    )
    for (const upstream of upstreams) void keepChecking(upstream, log, timers.signal)
    void keepFollowing(follower, log, timers.signal)
    void keepSigning(published, log, timers.signal)
    void keepPruning(table, log, timers.signal)
    void keepTidy(keeper, log, timers.signal)
    if (config.audit.maxBytesPerDay > 0) void keepAuditing(auditor, log, timers.signal)
    serving = {
      cacheUrl: cacheUrl(cacheListener.address),
      ...(peerUrl === undefined ? {} : { peerUrl }),
      ...(node === undefined ? {} : { swarm: { peerId: node.peerId, addrs: node.addrs() } }),
    }
    return serving
  }

  return {
    operations,
    serve,
    async close(graceMs) {
      timers.abort()
      await Promise.all(listeners.map((listener) => listener.close(graceMs)))
      transfers.close()
      await (await swarmStart)?.stop()
      await Promise.all(
        [...gateways, ...upstreams, ...pipes.map(({ pipe }) => pipe)].map((one) => one.close()),
      )
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

async function publishedNames(dir: string): Promise<FeedName[]> {
  try {
    return (await readdir(dir)).map(feedNameOfStem)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function cacheUrl(address: ListenAddress): string {
  return 'path' in address ? address.path : `http://${formatHostPort(address)}`
}

/** Undefined when it is not there, not for us, or larger than any configuration. */
function readText(path: string): string | undefined {
  try {
    if (statSync(path).size > CONFIG_MAX_BYTES) return undefined
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

if (import.meta.main) await main(process.argv.slice(2))
