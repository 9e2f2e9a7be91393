/** The world on loopback: two caches and a peer with a feed, each behind a fault proxy. */
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { hasStatus } from './until.ts'
import { formatPublicKey } from '../../../src/nix/key.ts'
import { startFaultProxy } from './fault-proxy.ts'
import type { FaultProxy } from './fault-proxy.ts'
import type { Origin } from './clients.ts'
import { createOrigin } from './origin.ts'
import type { Target } from './origin.ts'
import type { Random } from './random.ts'
import { createSubject } from './subject.ts'
import type { Subject } from './subject.ts'
import type { TruePath, World } from './world.ts'

export const FEED = 'peer.narswarm.invalid/main'

export interface Stage {
  readonly proxies: readonly FaultProxy[]
  readonly origins: readonly Origin[]
  /** A cache that always tells the truth, for publishing from. */
  readonly honestUrl: string
  /** The configuration of who is tortured. */
  settings(port: number, root: string): Record<string, unknown>
  /** One more path in the peer's feed, as long as there are any. */
  publishNext(): Promise<void>
  readonly peer: Subject
}

export async function openStage(
  world: World,
  deps: { dir: string; random: Random; signal: AbortSignal; hold: (child: ChildProcess) => void },
): Promise<Stage> {
  const { dir, random, signal, hold } = deps
  const publicKey = formatPublicKey(world.key.publicKey)
  const honest = createOrigin([...world.paths, ...world.small], random.fork('honest'))
  const honestProxy = await startFaultProxy(honest, random.fork('honest proxy'), signal, 'fair')

  const peer = await createSubject(
    'peer',
    join(dir, 'peer'),
    (port) => ({
      profile: 'pool',
      cache: { listen: `127.0.0.1:${port}` },
      peer: { listen: '127.0.0.1:0' },
      swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      upstreams: [],
      store_root: join(dir, 'peer', 'root'),
      trust: { keys: [publicKey] },
      share: { keys: [publicKey] },
    }),
    hold,
  )
  await peer.start()
  const { rootKey } = await peer.operations.createFeed(FEED, { signal })
  const { peer: listener } = await hasStatus(peer, ({ peer }) => peer !== undefined, signal)
  const peerUrl = listener?.url ?? ''

  let published = 0
  const publishNext = async (count = 1): Promise<void> => {
    const paths = world.paths.slice(published, published + count).map(({ hashPart }) => hashPart)
    if (paths.length === 0) return
    const asked = { feed: FEED, dryRun: false, from: honestProxy.url, paths }
    for await (const event of peer.operations.publish(asked, { signal })) {
      if (event.kind === 'item' && event.outcome !== 'published' && event.reason !== undefined) {
        throw new Error(`the peer did not publish ${event.path}: ${event.reason}`)
      }
    }
    published += paths.length
  }
  await publishNext(world.paths.length >> 1)

  const split = createOrigin(world.paths, random.fork('cache 1'))
  const other = createOrigin(world.paths, random.fork('cache 2'))
  const proxies = [
    await startFaultProxy(split, random.fork('proxy 1'), signal),
    await startFaultProxy(other, random.fork('proxy 2'), signal, 'mild'),
    await startFaultProxy(httpTarget(peerUrl, signal), random.fork('proxy 3'), signal),
  ]
  const [first, second, third] = proxies as [FaultProxy, FaultProxy, FaultProxy]
  const origins: Origin[] = [first, second].map((proxy) => ({
    calmSince: () => proxy.calmSince(),
    has: (path: TruePath) => world.paths.includes(path),
  }))
  return {
    proxies,
    origins,
    honestUrl: honestProxy.url,
    peer,
    publishNext,
    settings: (port, root) => ({
      cache: { listen: `127.0.0.1:${port}` },
      upstreams: [first.url, second.url],
      store_root: root,
      trust: { keys: [publicKey] },
      share: { keys: [publicKey] },
      peers: { urls: [third.url] },
      feed: [{ name: FEED, root_key: rootKey, sources: [`${third.url}/feed/${FEED}`] }],
    }),
  }
}

/** Answers of at most a bundle of a feed. */
const ANSWER_MAX_BYTES = 32 * 2 ** 20

function httpTarget(base: string, signal: AbortSignal): Target {
  const dispatcher = new Agent({ connections: 16 })
  signal.addEventListener('abort', () => void dispatcher.destroy().catch(() => {}), { once: true })
  return async ({ path, range }) => {
    const headers = { accept: 'application/vnd.ipld.raw', ...(range === undefined ? {} : { range }) }
    const answer = await request(`${base}${path}`, { dispatcher, signal, headers })
    const body = Buffer.from(await answer.body.arrayBuffer())
    if (body.length > ANSWER_MAX_BYTES) throw new Error(`${path}: ${body.length} bytes`)
    const kept = ['content-type', 'content-range', 'etag', 'accept-ranges', 'cache-control']
    return {
      status: answer.statusCode,
      headers: Object.fromEntries(
        Object.entries(answer.headers).filter((one): one is [string, string] => kept.includes(one[0])),
      ),
      body,
    }
  }
}
