/** narswarm as users run it, one process each, and Nix as its customer. */
import { randomBytes } from 'node:crypto'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { startChild } from '../../../src/cli/demo/child-node.ts'
import type { ChildNode } from '../../../src/cli/demo/child-node.ts'
import { feedFileStem, parseFeedName } from '../../../src/feed/feed-name.ts'
import { formatPublicKey, generateSecretKey } from '../../../src/nix/key.ts'
import type { NarInfo } from '../../../src/nix/narinfo.ts'
import type { StorePath } from '../../../src/nix/store-path.ts'
import { formatStorePath } from '../../../src/nix/store-path.ts'
import type { CallOptions } from '../../../src/source.ts'
import { bounded, run } from './command.ts'
import { cacheOfOne, STORE_DIR } from './package.ts'

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))
const FEED = 'interop.narswarm.invalid/main'
const SYNC_DEADLINE_MS = 20_000

export interface Published {
  readonly info: NarInfo
  /** Root CID, as the publisher told it. */
  readonly cid: string
  /** The NAR, uncompressed. */
  readonly narFile: string
  readonly publicKey: string
  readonly addr: string
  readonly peerUrl: string
  /** Ends the publisher and removes all it had but the feed. */
  vanish(): Promise<FeedSettings>
}

export interface FeedSettings {
  readonly name: string
  readonly root_key: string
  readonly sources: readonly string[]
}

/** A narswarm that has published one path of 200 MB and shares it. */
export async function publishOne(
  dir: string,
  cleanup: AsyncDisposableStack,
  options: CallOptions,
): Promise<Published> {
  const key = generateSecretKey('interop-1', randomBytes)
  const publicKey = formatPublicKey(key.publicKey)
  const cache = join(dir, 'cache')
  const info = await cacheOfOne(cache, key, options)
  const home = join(dir, 'publisher')
  const { node, stop } = await start(
    home,
    {
      profile: 'pool',
      peer: { listen: '127.0.0.1:0' },
      swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      trust: { keys: [publicKey] },
      share: { keys: [publicKey] },
    },
    cleanup,
    options,
  )
  const { rootKey } = await node.operations.createFeed(FEED, options)
  const cids: string[] = []
  const request = { feed: FEED, dryRun: false, from: cache, paths: [] }
  for await (const event of node.operations.publish(request, options)) {
    if (event.kind === 'item') cids.push(event.cid ?? event.reason ?? event.outcome)
  }
  const { peer, swarm } = await node.status()
  const [cid] = cids
  const [addr] = swarm?.addrs ?? []
  if (cid === undefined || peer === undefined || addr === undefined) throw new Error('nothing is shared')
  return {
    info,
    cid,
    narFile: join(cache, info.url),
    publicKey,
    addr,
    peerUrl: peer.url,
    async vanish() {
      await stop()
      const files = join(dir, 'feed')
      await cp(join(home, 'state', 'feeds', feedFileStem(parseFeedName(FEED))), files, { recursive: true })
      await rm(home, { recursive: true })
      await rm(cache, { recursive: true })
      return { name: FEED, root_key: rootKey, sources: [pathToFileURL(files).href] }
    },
  }
}

/** A narswarm with no upstream: it has the feed's word for what there is, and `peers` for the bytes. */
export async function follow(
  dir: string,
  settings: {
    readonly feed: FeedSettings
    readonly publicKey: string
    readonly peers: { readonly urls?: readonly string[]; readonly addrs?: readonly string[] }
  },
  cleanup: AsyncDisposableStack,
  options: CallOptions,
): Promise<ChildNode> {
  const { feed, publicKey, peers } = settings
  const { node } = await start(
    join(dir, 'follower'),
    { profile: 'private', trust: { keys: [publicKey] }, peers, feed: [feed] },
    cleanup,
    options,
  )
  for (const deadline = Date.now() + SYNC_DEADLINE_MS; Date.now() < deadline; await sleep(50)) {
    if (((await node.status()).feeds.followed[0]?.size ?? 0) > 0) return node
  }
  throw new Error(`the feed was not followed within ${SYNC_DEADLINE_MS} ms`)
}

/** The real Nix, with an empty store and this one substituter. */
export async function installWithNix(
  dir: string,
  storePath: StorePath,
  settings: { readonly substituter: string; readonly publicKey: string },
): Promise<{ readonly narHash: string; readonly tookMs: number }> {
  const path = formatStorePath(storePath, STORE_DIR)
  const store = ['--store', join(dir, 'nix-root')]
  const home = join(dir, 'nix-home')
  // Neither what this machine's Nix is told, nor what it remembers of caches, nor its proxy.
  const nix = { NIX_CONF_DIR: home, NIX_REMOTE: '', NIX_CONFIG: '' }
  const env = { ...nix, HOME: home, XDG_CACHE_HOME: join(home, 'cache'), no_proxy: '127.0.0.1' }
  const trust = ['--option', 'trusted-public-keys', settings.publicKey]
  const from = ['--option', 'substituters', settings.substituter]
  const begun = performance.now()
  await run('nix-store', [...store, ...trust, ...from, '--realise', path], { env })
  const tookMs = performance.now() - begun
  await run('nix-store', [...store, '--verify-path', path], { env })
  return { narHash: await run('nix-store', [...store, '--query', '--hash', path], { env }), tookMs }
}

async function start(
  dir: string,
  settings: Record<string, unknown>,
  cleanup: AsyncDisposableStack,
  options: CallOptions,
): Promise<{ node: ChildNode; stop: () => Promise<void> }> {
  const common = {
    store_dir: STORE_DIR,
    // What this machine's own store holds is nothing to the test.
    store_root: join(dir, 'no-store'),
    upstreams: [],
    cache: { listen: '127.0.0.1:0' },
  }
  const command = bounded(process.execPath, [MAIN])
  const node = await startChild(dir, { ...common, ...settings }, command, options)
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => (stopped ??= node.stop())
  cleanup.defer(stop)
  return { node, stop }
}
