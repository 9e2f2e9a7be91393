/**
 * What other machines may ask of this one, all of it out of what the share policy lets go: the routes of a binary cache,
 * blocks and CARs by CID, and the files of feeds. No list of holdings, and nothing is fetched for a stranger but by the relay,
 * where the user wants one.
 */
import { Hono } from 'hono'
import type { FeedFiles } from '../feed/feed-files.ts'
import { parseFeedPath, splitFeedPath } from '../feed/feed-path.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { Relay } from '../operations/relay.ts'
import type { WireCount } from '../operations/wire-count.ts'
import type { Holdings } from '../publish/holdings.ts'
import type { NarsUnderWay } from '../publish/under-way.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import { ALONG_HEADER, parseAlong } from '../swarm/along-wire.ts'
import { RELAY_HEADER } from '../swarm/relay-wire.ts'
import type { Upload } from '../swarm/upload.ts'
import { notFound } from './answer.ts'
import type { Answer } from './answer.ts'
import { addCacheRoutes } from './cache-routes.ts'
import type { CacheConfig } from './cache-routes.ts'
import { cacheFailure, peerFailure } from './errors.ts'
import { answerNow, failureHandler } from './failures.ts'
import { addGatewayRoutes } from './gateway.ts'
import type { LeafCoder } from './leaf-coder.ts'
import type { PeerBudgets } from './peer-budgets.ts'
import { isForNix, peerGate } from './peer-gate.ts'
import { addRelayRoute } from './relay-route.ts'
import { requestGuard } from './request-guard.ts'
import { requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'

export interface PeerAppDeps {
  /** What is here and may be given to others; nothing else is looked at for a peer. */
  readonly holdings: Holdings
  /** What is not here yet, for those who check it themselves. */
  readonly underWay: NarsUnderWay
  readonly blocks: LocalBlocks
  readonly coder: LeafCoder
  /** Of single blocks. */
  readonly given: WireCount
  readonly feeds: FeedFiles
  readonly budgets: PeerBudgets
  readonly upload: Upload
  /** Absent: nothing is fetched for others. */
  readonly relay?: Pick<Relay, 'ask'> | undefined
  /** The narinfo as it is sent. */
  formatAnswer(info: VerifiedNarInfo): string
  readonly log: Log
}

const FEED_PREFIX = '/feed/'

export function createPeerApp(deps: PeerAppDeps, config: CacheConfig): Hono<HttpEnv> {
  const { holdings, blocks, coder, given, feeds, relay, log } = deps
  const app = new Hono<HttpEnv>()

  app.use(peerGate(deps))
  // Peers come by address, so any Host will do; a browser is as unwelcome as on the cache listener.
  app.use(requestGuard({ hosts: 'any' }))
  app.onError(failureHandler((kind, path) => (isForNix(path) ? cacheFailure(kind) : peerFailure(kind)), log))
  app.notFound((c) => answerNow(c, notFound()))

  addGatewayRoutes(app, { blocks, narSizeOf: (root) => holdings.narSizeOf(root), coder, given, log })
  app.get(`${FEED_PREFIX}*`, async (c) => {
    const answer = await feedAnswer(c.req.path.slice(FEED_PREFIX.length), feeds)
    return respond(c, answer, { signal: requestSignal(c), log })
  })

  const content = {
    narInfo(hashPart: HashPart) {
      const info = holdings.narInfo(hashPart)
      return Promise.resolve(info === undefined ? undefined : deps.formatAnswer(info))
    },
    async nar(
      narHash: NarHash,
      { signal, header }: CallOptions & { header: (name: string) => string | undefined },
    ) {
      const here = holdings.openNar(narHash)
      const along = parseAlong(header(ALONG_HEADER))
      const nar = here ?? (along && (await deps.underWay.open(narHash, along, { signal })))
      if (nar === undefined) return undefined
      return {
        narSize: nar.narSize,
        unproved: nar !== here,
        open: (range: ByteRange, options: ReadOptions) => Promise.resolve(nar.read(range, options)),
      }
    },
  }
  if (relay !== undefined) addRelayRoute(app, { relay, formatAnswer: (info) => deps.formatAnswer(info), log })
  addCacheRoutes(
    app,
    { content, log },
    relay === undefined ? config : { ...config, about: { [RELAY_HEADER]: '1' } },
  )
  return app
}

async function feedAnswer(nameAndPath: string, feeds: FeedFiles): Promise<Answer> {
  const file = splitFeedPath(nameAndPath)
  const path = file === undefined ? undefined : parseFeedPath(file.path)
  if (file === undefined || path === undefined) return notFound()
  const body = await feeds.read(file.name, file.path)
  if (body === undefined) return notFound()
  const text = path.kind === 'checkpoint' || path.kind === 'root'
  return {
    status: 200,
    headers: {
      'Content-Type': text ? 'text/plain; charset=utf-8' : 'application/octet-stream',
      'X-Content-Type-Options': 'nosniff',
      // Tiles and root documents never change once they are there; the checkpoint is what changes.
      'Cache-Control': path.kind === 'checkpoint' ? 'no-store' : 'public, max-age=31536000, immutable',
    },
    body,
  }
}
