/** What Nix on this machine talks to, and its user's browser. */
import { Hono } from 'hono'
import type { Context } from 'hono'
import type { Log } from '../log.ts'
import { sourceKind } from '../source.ts'
import type { ByteRange, ReadOptions, SourceId } from '../source.ts'
import type { NarLister } from '../substitute/list-nar.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { Resolver } from '../substitute/resolve.ts'
import type { Transfer } from '../substitute/transfer.ts'
import type { Transfers } from '../substitute/transfers.ts'
import { notFound, refusal } from './answer.ts'
import type { Answer, Headers } from './answer.ts'
import { addCacheRoutes } from './cache-routes.ts'
import type { CacheConfig, CacheContent } from './cache-routes.ts'
import { cacheFailure } from './errors.ts'
import { answerNow, failureHandler } from './failures.ts'
import { createListings } from './listings.ts'
import { metricsAnswer } from './metrics.ts'
import type { MetricsFacts } from './metrics.ts'
import { pageAnswer } from './page.ts'
import type { PageData } from './page.ts'
import { createPassedFiles } from './passed-files.ts'
import type { FileSource } from './passed-files.ts'
import { addPassedRoutes } from './passed-routes.ts'
import { createRequestCounts } from './request-counts.ts'
import { requestGuard } from './request-guard.ts'
import { requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'

export interface CacheAppDeps {
  readonly resolver: Pick<Resolver, 'byHashPart' | 'byNarHash'>
  readonly transfers: Pick<Transfers, 'open' | 'hint'>
  readonly lister: NarLister
  /** For what is passed on from them as it is. */
  readonly upstreams: readonly FileSource[]
  /** The narinfo as it is sent. */
  formatAnswer(info: VerifiedNarInfo): string
  /** The document of `status --json`. */
  status(): Promise<object>
  /** For `/metrics`. */
  metrics(): Promise<Omit<MetricsFacts, 'requests'>>
  /** Why not to send anybody here yet; undefined when all is well. */
  notReady(): string | undefined
  page(): PageData
  readonly log: Log
}

export interface CacheAppConfig extends CacheConfig {
  /** Values of Host that are answered, see {@link GuardRules}: `127.0.0.1`, `localhost` and `[::1]` for a local cache. */
  readonly allowedHosts: readonly string[]
  readonly version: string
}

/** What node takes in a header, and a terminal shows as it is. */
const PRINTABLE = /^[\x21-\x7e]{1,256}$/

export function createCacheApp(deps: CacheAppDeps, config: CacheAppConfig): Hono<HttpEnv> {
  const { resolver, transfers, log } = deps
  const app = new Hono<HttpEnv>()
  const send = (c: Context<HttpEnv>, answer: Answer): Promise<Response> =>
    respond(c, answer, { signal: requestSignal(c), log })

  const requests = createRequestCounts()
  app.use(requests.counting)
  app.use(requestGuard({ hosts: config.allowedHosts }))
  app.onError(failureHandler(cacheFailure, log))
  app.notFound((c) => answerNow(c, notFound()))

  app.get('/', async (c) => {
    const host = c.req.header('host') ?? new URL(c.req.url).host
    return send(c, await pageAnswer(deps.page(), { ...config, host }))
  })
  for (const path of ['/healthz', '/health']) app.get(path, (c) => send(c, plain('ok')))
  app.get('/readyz', (c) => {
    const reason = deps.notReady()
    // The one 5xx of this listener: who asks here wants a status, and Nix does not ask.
    return send(c, reason === undefined ? plain('ready') : refusal(503, reason))
  })
  app.get('/version', (c) => send(c, plain(`narswarm ${config.version}`)))
  app.get('/api/v1/status', async (c) =>
    send(c, {
      status: 200,
      headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' },
      body: `${JSON.stringify(await deps.status(), null, 2)}\n`,
    }),
  )

  app.get('/metrics', async (c) =>
    send(c, metricsAnswer({ ...(await deps.metrics()), requests: requests.all() })),
  )

  const files = createPassedFiles(deps.upstreams, { log })
  addPassedRoutes(app, { files, resolver, log })

  const content: CacheContent = {
    listing: createListings({ ...deps, files }),
    async narInfo(hashPart, options) {
      const info = await resolver.byHashPart(hashPart, options)
      if (info === undefined) return undefined
      // HEAD asks whether there is a path, and wants no bytes of it.
      if (options.method === 'GET') transfers.hint(info)
      return deps.formatAnswer(info)
    },
    async nar(narHash, options) {
      const info = await resolver.byNarHash(narHash, options)
      if (info === undefined) return undefined
      let transfer: Transfer | undefined
      return {
        narSize: info.narSize,
        async open(range: ByteRange, inner: ReadOptions) {
          transfer = await transfers.open(info, range, inner)
          return transfer.read(range, inner)
        },
        headers: () => sourceHeader(transfer?.from),
      }
    },
  }
  addCacheRoutes(app, { content, log }, config)
  return app
}

/**
 * For people and tests; no Nix looks at it. Here alone: whoever may ask this listener may read the same in `status`, and a
 * page of another site can neither ask it nor read its answers.
 */
function sourceHeader(from: SourceId | undefined): Headers {
  if (from === undefined) return {}
  return { 'X-Narswarm-Source': PRINTABLE.test(from) ? from : sourceKind(from) }
}

function plain(text: string): Answer {
  return refusal(200, text)
}
