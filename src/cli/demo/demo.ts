/**
 * The main job on one machine, with nothing but npm: one narswarm publishes packages into a signed feed, another follows
 * the feed and answers as a substituter, with the bytes coming from the first over IPFS; once over bitswap alone, once
 * over the HTTP gateway alone.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEMO_START_DEADLINE_MS } from '../../limits.ts'
import { formatPublicKey, generateSecretKey } from '../../nix/key.ts'
import type { PublicKey } from '../../nix/key.ts'
import type { StorePath } from '../../nix/store-path.ts'
import type { CallOptions } from '../../source.ts'
import { installAsNix } from './as-nix.ts'
import { startChild } from './child-node.ts'
import type { ChildNode } from './child-node.ts'
import { writeFolderCache } from './folder-cache.ts'
import { makePackages } from './packages.ts'

export interface DemoDeps {
  /** How this very program is started, without its verb. */
  command: readonly string[]
  randomBytes: (n: number) => Uint8Array
  /** One line for the user. */
  say: (line: string) => void
}

const STORE_DIR = '/nix/store'
const FEED = 'demo.narswarm.invalid/main'

/** Leaves nothing behind. @throws when anything was not as promised */
export async function runDemo(deps: DemoDeps, options: CallOptions): Promise<void> {
  const { say } = deps
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-demo-'))
  const running: ChildNode[] = []
  const start = async (name: string, settings: Record<string, unknown>): Promise<ChildNode> => {
    const node = await startChild(
      join(dir, name),
      { store_dir: STORE_DIR, ...settings },
      deps.command,
      options,
    )
    running.push(node)
    return node
  }
  try {
    const key = generateSecretKey('demo-1', deps.randomBytes)
    const publicKey = formatPublicKey(key.publicKey)
    const packages = await makePackages(join(dir, 'packages'))
    await writeFolderCache(join(dir, 'cache'), packages, { key, storeDir: STORE_DIR }, options)
    say(`1. a binary cache with ${packages.length} packages, signed by ${publicKey}`)

    const publisher = await start('publisher', {
      profile: 'pool',
      upstreams: [],
      cache: { listen: '127.0.0.1:0' },
      peer: { listen: '127.0.0.1:0' },
      swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      trust: { keys: [publicKey] },
      share: { keys: [publicKey] },
    })
    const { rootKey } = await publisher.operations.createFeed(FEED, options)
    say(`2. narswarm A publishes them into the feed ${FEED}`)
    const request = { feed: FEED, dryRun: false, from: join(dir, 'cache'), paths: [] }
    for await (const event of publisher.operations.publish(request, options)) {
      if (event.kind === 'item') say(`     ${event.path}  ${event.cid ?? event.outcome}`)
      else say(`     feed: ${event.size} entries, root key ${rootKey}`)
    }
    const { peer, swarm } = await publisher.status()
    if (peer === undefined || swarm?.addrs[0] === undefined) throw new Error('narswarm A shares nothing')

    const ways = [
      { title: 'bitswap', peers: { addrs: swarm.addrs } },
      { title: 'the trustless HTTP gateway', peers: { urls: [peer.url] } },
    ]
    for (const [at, { title, peers }] of ways.entries()) {
      say(`${at + 3}. narswarm B follows the feed and gets the bytes from A over ${title} alone`)
      const consumer = await start(`consumer-${at}`, {
        profile: 'private',
        upstreams: [],
        cache: { listen: '127.0.0.1:0' },
        trust: { keys: [publicKey] },
        peers,
        feed: [{ name: FEED, root_key: rootKey, sources: [`${peer.url}/feed/${FEED}`] }],
      })
      const paths = packages.map(({ storePath }) => storePath)
      await install(consumer, paths, key.publicKey, say, options)
      await consumer.stop()
    }
    await publisher.stop()
    say(
      'done: every signature and every hash was checked, by narswarm and again by the client; nothing is left behind',
    )
  } finally {
    await Promise.allSettled(running.map((node) => node.stop()))
    await rm(dir, { recursive: true, force: true })
  }
}

async function install(
  consumer: ChildNode,
  paths: readonly StorePath[],
  key: PublicKey,
  say: DemoDeps['say'],
  options: CallOptions,
): Promise<void> {
  const substituter = (await synced(consumer, paths.length)).cache.url
  for (const path of paths) {
    const one = await installAsNix(path, substituter, { key, storeDir: STORE_DIR }, options)
    const rate = `${(one.narSize / one.tookMs / 1000).toFixed(0)} MB/s`
    say(`     ${one.storePath}`)
    say(`       ${one.narSize} bytes, ${rate}, NarHash sha256:${one.narHash}, signature by ${key.name}`)
  }
  for (const source of (await consumer.status()).sources) say(`     from ${source.id}: ${source.bytes} bytes`)
}

/** Waits for the feed's entries. */
async function synced(
  consumer: ChildNode,
  entries: number,
): Promise<Awaited<ReturnType<ChildNode['status']>>> {
  for (const deadline = Date.now() + DEMO_START_DEADLINE_MS; Date.now() < deadline; await sleep(50)) {
    const status = await consumer.status()
    if ((status.feeds.followed[0]?.size ?? 0) >= entries) return status
  }
  throw new Error(`narswarm B did not follow the feed within ${DEMO_START_DEADLINE_MS} ms`)
}
