/**
 * What is refused before any route is looked at: requests that a browser was tricked into, names that are not ours (DNS
 * rebinding), and targets that mean one thing to us and another to somebody else [security 3 C1 to C6].
 */
import type { MiddlewareHandler } from 'hono'
import { HTTP_MAX_HEADERS_COUNT, HTTP_MAX_TARGET_BYTES } from '../limits.ts'
import { notFound, refusal } from './answer.ts'
import type { TextAnswer } from './answer.ts'
import { answerNow } from './failures.ts'
import { nodeSide } from './respond.ts'
import type { HttpEnv } from './respond.ts'

export interface GuardRules {
  /**
   * Values of `Host`, compared exactly. One without a port stands for itself with the port that the connection came to,
   * so that an ephemeral port needs no configuration. `any` for a listener that is reached by address.
   */
  readonly hosts: 'any' | readonly string[]
}

/** As it stood on the wire: joined headers and parsed URLs have lost what is looked for here. */
export interface RequestHead {
  readonly method: string
  readonly target: string
  readonly rawHeaders: readonly string[]
  readonly localPort: number | undefined
}

/** Backslash and `#` are taken for something else by URL parsers; the rest has no place in a target. */
const ILLEGAL_IN_TARGET = /[\\# \p{Cc}]/u
const ILLEGAL_ONCE_DECODED = /[\\\p{Cc}]/u
const DOT_SEGMENT = /(?:^|\/)\.\.?(?:\/|$)/

export function requestGuard(rules: GuardRules): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const { incoming } = nodeSide(c)
    const answer = checkRequest(
      incoming === undefined
        ? headOfRequest(c.req.raw)
        : {
            method: incoming.method ?? '',
            target: incoming.url ?? '',
            rawHeaders: incoming.rawHeaders,
            localPort: incoming.socket.localPort,
          },
      rules,
    )
    if (answer === undefined) return next()
    return answerNow(c, answer)
  }
}

/** The answer to a request that goes no further, with its reason in words. */
export function checkRequest(head: RequestHead, rules: GuardRules): TextAnswer | undefined {
  return (
    checkTarget(head.target) ??
    checkHeaders(head, rules) ??
    (head.method === 'GET' || head.method === 'HEAD'
      ? undefined
      : refusal(405, 'only GET and HEAD are served here', { Allow: 'GET, HEAD' }))
  )
}

function checkTarget(target: string): TextAnswer | undefined {
  if (!target.startsWith('/')) return refusal(400, 'the request target must be a path')
  if (target.length > HTTP_MAX_TARGET_BYTES) {
    return refusal(414, `the request target is longer than ${HTTP_MAX_TARGET_BYTES} bytes`)
  }
  const [path = ''] = target.split('?', 1)
  // Once, and only to look: `%252e` stays `%2e`, which no route takes.
  const decoded = decodeOnce(path)
  if (
    decoded === undefined ||
    ILLEGAL_IN_TARGET.test(target) ||
    ILLEGAL_ONCE_DECODED.test(decoded) ||
    DOT_SEGMENT.test(decoded)
  ) {
    // Nothing here has such a name; and of all refusals a 404 is the one that no Nix stops for [nix-protocol A7].
    return notFound()
  }
  return undefined
}

function checkHeaders(head: RequestHead, rules: GuardRules): TextAnswer | undefined {
  // Node silently drops the headers beyond its maximum, and a second Host or an Origin may be one of them.
  if (head.rawHeaders.length >= 2 * HTTP_MAX_HEADERS_COUNT) return refusal(431, 'too many headers')
  const hosts = valuesOf('host', head.rawHeaders)
  const [host = ''] = hosts
  if (hosts.length !== 1 || host === '' || !hostAllowed(host, rules.hosts, head.localPort)) {
    // Not 421: to a Nix that was sent here by a name nobody allowed, 403 is a miss, and 421 the end of its run.
    return refusal(403, 'this Host is not served here')
  }
  const sites = valuesOf('sec-fetch-site', head.rawHeaders)
  const crossSite =
    valuesOf('origin', head.rawHeaders).length > 0 ||
    sites.some((site) => site !== 'none' && site !== 'same-origin') ||
    valuesOf('referer', head.rawHeaders).some((referer) => !isOwn(referer, host))
  return crossSite ? refusal(403, 'cross-site requests are refused') : undefined
}

function hostAllowed(host: string, hosts: GuardRules['hosts'], localPort: number | undefined): boolean {
  if (hosts === 'any') return true
  return hosts.some((allowed) => {
    if (/:[0-9]+$/.test(allowed)) return host === allowed
    return host === `${allowed}:${localPort ?? 80}` || (host === allowed && (localPort ?? 80) === 80)
  })
}

/** From the page on `/` to what it links. */
function isOwn(referer: string, host: string): boolean {
  return URL.canParse(referer) && new URL(referer).host === host
}

function valuesOf(name: string, rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]?.toLowerCase() === name)
}

function decodeOnce(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}

function headOfRequest(request: Request): RequestHead {
  const url = new URL(request.url)
  const rawHeaders = [...request.headers].flat()
  if (!request.headers.has('host')) rawHeaders.push('host', url.host)
  return { method: request.method, target: url.pathname + url.search, rawHeaders, localPort: undefined }
}
