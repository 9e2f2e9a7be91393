import type { MiddlewareHandler } from 'hono'
import { nodeSide } from './respond.ts'
import type { HttpEnv } from './respond.ts'

/** `passed`: what is passed on from upstreams; `own`: what people and programs ask beside a Nix. */
const ROUTES = ['cache-info', 'narinfo', 'nar', 'listing', 'passed', 'own', 'other'] as const
type Route = (typeof ROUTES)[number]

/** Answers since the start, by route and first digit of the status: never by path. */
export interface RequestCounts {
  /** Each that there was. */
  all(): readonly { readonly route: Route; readonly code: string; readonly count: number }[]
  /** First of all handlers, so that it sees what the others refuse. */
  readonly counting: MiddlewareHandler<HttpEnv>
}

export function createRequestCounts(): RequestCounts {
  const counts = new Map<string, { route: Route; code: string; count: number }>()

  return {
    all: () => [...counts.values()],
    async counting(c, next) {
      await next()
      const { outgoing } = nodeSide(c)
      const status = outgoing?.headersSent === true ? outgoing.statusCode : c.res.status
      const route = routeOf(c.req.path)
      const code = `${Math.floor(status / 100)}xx`
      const key = `${route} ${code}`
      const known = counts.get(key)
      if (known === undefined) counts.set(key, { route, code, count: 1 })
      else known.count += 1
    },
  }
}

function routeOf(path: string): Route {
  if (path.endsWith('.narinfo')) return 'narinfo'
  if (path.startsWith('/nar/')) return 'nar'
  if (path === '/nix-cache-info') return 'cache-info'
  if (path.endsWith('.ls')) return 'listing'
  if (/^\/(?:log|realisations|build-trace-v2|debuginfo)\//.test(path)) return 'passed'
  return /^\/(?:|health|healthz|readyz|version|metrics|api\/v1\/status)$/.test(path) ? 'own' : 'other'
}
