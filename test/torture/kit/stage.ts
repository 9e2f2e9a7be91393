/** The world on loopback: two caches, a peer with a feed, and a neighbour, each behind a fault proxy. */
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
  /**
   * The configuration of who is tortured.
   *
   * @param isNear the others' neighbour; else it is one of those who have that neighbour
   */
  settings(port: number, root: string, isNear: boolean): Record<string, unknown>
  /** From now on there is a neighbour: its peer listener. */
  neighbour(url: string): void
  /** Whoever gave wrong bytes is out for a day: a user who takes that back, for each of them. */
  pardon(subject: Subject, options: { signal: AbortSignal }): Promise<void>
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

  let nearUrl = ''
  const split = createOrigin(world.paths, random.fork('cache 1'))
  const other = createOrigin(world.paths, random.fork('cache 2'))
  const proxies = [
    await startFaultProxy(split, random.fork('proxy 1'), signal),
    await startFaultProxy(other, random.fork('proxy 2'), signal, 'mild'),
    await startFaultProxy(
      httpTarget(() => peerUrl, signal),
      random.fork('proxy 3'),
      signal,
    ),
    await startFaultProxy(
      httpTarget(() => nearUrl, signal),
      random.fork('proxy 4'),
      signal,
    ),
  ]
  const [first, second, third, fourth] = proxies as [FaultProxy, FaultProxy, FaultProxy, FaultProxy]
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
    neighbour: (url) => void (nearUrl = url),
    async pardon(subject, options) {
      for (const { url: peer } of [third, fourth]) {
        // Mostly there is nothing to take back.
        await subject.operations.changePeer({ action: 'unban', peer }, options).catch(() => {})
      }
    },
    settings: (port, root, isNear) => ({
      ...(isNear
        ? {
            profile: 'pool',
            peer: { listen: '127.0.0.1:0' },
            swarm: { listen: ['/ip4/127.0.0.1/tcp/0'] },
          }
        : {}),
      cache: { listen: `127.0.0.1:${port}` },
      upstreams: [first.url, second.url],
      store_root: root,
      trust: { keys: [publicKey] },
      share: { keys: [publicKey] },
      peers: { urls: isNear ? [third.url] : [third.url, fourth.url] },
      feed: [{ name: FEED, root_key: rootKey, sources: [`${third.url}/feed/${FEED}`] }],
    }),
  }
}

/** Answers of at most a bundle of a feed. */
const ANSWER_MAX_BYTES = 32 * 2 ** 20
/** What an answer depends on, and what it must be known by. */
const ASKED_HEADERS = [
  'accept',
  'accept-encoding',
  'available-dictionary',
  'downlink',
  'if-none-match',
  'narswarm-along',
  'range',
]
const KEPT_HEADERS = [
  'accept-ranges',
  'cache-control',
  'content-encoding',
  'content-range',
  'content-type',
  'etag',
  'retry-after',
  'vary',
]

function httpTarget(base: () => string, signal: AbortSignal): Target {
  const dispatcher = new Agent({ connections: 16 })
  signal.addEventListener('abort', () => void dispatcher.destroy().catch(() => {}), { once: true })
  return async (asked) => {
    const { path } = asked
    const method = asked.method === 'HEAD' ? 'HEAD' : 'GET'
    const headers = only(asked.headers, ASKED_HEADERS)
    const answer = await request(`${base()}${path}`, { dispatcher, method, signal, headers })
    const body = Buffer.from(await answer.body.arrayBuffer())
    if (body.length > ANSWER_MAX_BYTES) throw new Error(`${path}: ${body.length} bytes`)
    return { status: answer.statusCode, headers: only(answer.headers, KEPT_HEADERS), body }
  }
}

function only(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  names: readonly string[],
): Record<string, string> {
  const isOne = (one: [string, unknown]): one is [string, string] =>
    names.includes(one[0]) && typeof one[1] === 'string'
  return Object.fromEntries(Object.entries(headers).filter(isOne))
}
