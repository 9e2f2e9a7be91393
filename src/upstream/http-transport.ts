import type { LookupFunction } from 'node:net'
import { Agent, type Dispatcher } from 'undici'
import {
  UPSTREAM_BULK_CONNECTIONS_COUNT,
  UPSTREAM_CONNECT_DEADLINE_MS,
  UPSTREAM_MAX_REDIRECTS,
  UPSTREAM_PIECE_MAX_BYTES,
  UPSTREAM_PIECE_MIN_BYTES,
  UPSTREAM_PIECES_TOTAL_BYTES,
  UPSTREAM_SMALL_CONNECTIONS_COUNT,
} from '../limits.ts'
import { quote } from '../nix/quote.ts'
import { SourceFaultError, SourceLieError, type CallOptions, type SourceId } from '../source.ts'
import { abortable } from './abortable.ts'
import { StatusError } from './errors.ts'
import { receive, type Received } from './receive.ts'
import { createReceivingConnector } from './receiving-socket.ts'
import { checkLiteral, isPrivateHost, publicLookup, redirectTarget, RedirectError } from './redirect.ts'
import { retryAfterMs } from './retry-after.ts'
import type { Transport, TransportBody, TransportOptions } from './transport.ts'

/** What Nix, too, takes for "not there": some caches answer 403 for what they do not have (nix-protocol A7). */
const MISSES = new Set([401, 403, 404, 410])
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** Those of RFC 9110 and what Nix's own uploads may carry (nix-protocol A11). */
const ENCODINGS: ReadonlyMap<string, NonNullable<TransportBody['encoding']>> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['br', 'br'],
  ['zstd', 'zstd'],
  ['xz', 'xz'],
  ['bzip2', 'bzip2'],
])
/** An error page up to this is read away to keep the connection. */
const DUMPED_BYTES = 65_536

/**
 * A binary cache at an http or https URL. `base` ends with a slash.
 *
 * @param options.redirects whether any are followed
 */
export function createHttpTransport(
  base: URL,
  id: SourceId,
  options: { redirects: boolean } = { redirects: true },
): Transport {
  const maxRedirects = options.redirects ? UPSTREAM_MAX_REDIRECTS : 0
  const own = {
    small: createAgent(UPSTREAM_SMALL_CONNECTIONS_COUNT),
    bulk: createAgent(UPSTREAM_BULK_CONNECTIONS_COUNT),
  }
  let guarded: Agent | undefined
  let isPrivate: Promise<boolean> | undefined

  /** For hosts that a redirect named. */
  async function foreign(url: URL, { size, signal }: TransportOptions): Promise<Dispatcher> {
    isPrivate ??= isPrivateHost(base)
    if (await abortable(isPrivate, signal)) return own[size]
    checkLiteral(url)
    guarded ??= createAgent(UPSTREAM_BULK_CONNECTIONS_COUNT, { lookup: publicLookup() })
    return guarded
  }

  /** Fixed when it begins: those that begin among many get little. */
  function pieceBytes(size: TransportOptions['size']): number {
    const others = Object.values(own.bulk.stats).reduce((sum, one) => sum + one.size, 0)
    const fair = size === 'small' ? 0 : UPSTREAM_PIECES_TOTAL_BYTES / (others + 1)
    return Math.round(Math.min(UPSTREAM_PIECE_MAX_BYTES, Math.max(UPSTREAM_PIECE_MIN_BYTES, fair)))
  }

  async function get(first: URL, options: TransportOptions): Promise<TransportBody | undefined> {
    const { signal, size, from = 0, buffers } = options
    const headers: Record<string, string> = { 'accept-encoding': 'identity', 'user-agent': 'narswarm' }
    if (from > 0) headers['range'] = `bytes=${from}-`
    let url = first
    let dispatcher: Dispatcher = own[size]
    for (let hops = 0; ; hops++) {
      const response = await receive(dispatcher, url, {
        headers,
        pieceBytes: pieceBytes(size),
        buffers,
        signal,
      })
      const { statusCode } = response
      if (statusCode === 200 || (statusCode === 206 && from > 0)) return body(url, response, from)
      await dump(response, { signal })
      if (MISSES.has(statusCode)) return undefined
      if (!REDIRECTS.has(statusCode)) throw unexpected(url, response)
      if (hops === maxRedirects) {
        throw new RedirectError(`more than ${maxRedirects} redirects from ${first.href}`)
      }
      const location = response.headers['location']
      if (typeof location !== 'string') throw new RedirectError(`status ${statusCode} without one Location`)
      const target = redirectTarget(base, url, location)
      dispatcher = target.sameHost ? own[size] : await foreign(target.url, options)
      url = target.url
    }
  }

  function body(url: URL, response: Received, from: number): TransportBody {
    const { statusCode, headers } = response
    try {
      const encoding = contentEncoding(url, headers['content-encoding'])
      if (statusCode === 206) {
        checkContentRange(url, headers['content-range'], from)
        if (encoding !== undefined) {
          throw new SourceLieError(
            id,
            `${shown(url)}: expected a part of the file, got one of its ${encoding}`,
          )
        }
      }
      const contentType = headers['content-type']
      return {
        offset: statusCode === 206 ? from : 0,
        chunks: response.body,
        ...(encoding === undefined ? {} : { encoding }),
        ...(typeof contentType === 'string' ? { contentType } : {}),
      }
    } catch (error) {
      response.close()
      throw error
    }
  }

  /** We ask for none, and some send it all the same: what was stored compressed goes out as it was stored. */
  function contentEncoding(url: URL, header: string | string[] | undefined): TransportBody['encoding'] {
    const name = String(header ?? 'identity').toLowerCase()
    if (name === 'identity' || name === '') return undefined
    const encoding = ENCODINGS.get(name)
    if (encoding !== undefined) return encoding
    throw new SourceLieError(
      id,
      `${shown(url)}: expected no Content-Encoding, got ${JSON.stringify(header).slice(0, 80)}`,
    )
  }

  function checkContentRange(url: URL, header: string | string[] | undefined, from: number): void {
    const range =
      typeof header === 'string'
        ? /^bytes ([0-9]{1,15})-[0-9]{1,15}\/(?:[0-9]{1,15}|\*)$/i.exec(header)
        : null
    if (range === null || Number(range[1]) !== from) {
      throw new SourceLieError(
        id,
        `${shown(url)}: expected a Content-Range from ${from}, got ${JSON.stringify(header)?.slice(0, 80)}`,
      )
    }
  }

  function unexpected(url: URL, { statusCode, headers }: Received): SourceFaultError {
    const header = headers['retry-after']
    const later = typeof header === 'string' ? `, Retry-After ${quote(header.slice(0, 40))}` : ''
    return new SourceFaultError(id, `${shown(url)}: expected status 200, got ${statusCode}${later}`, {
      cause: new StatusError(statusCode, retryAfterMs(header, headers['date'])),
    })
  }

  return {
    get,
    async close() {
      await Promise.all([own.small.destroy(), own.bulk.destroy(), guarded?.destroy()])
    },
  }
}

/** Reads a short rest away; a longer one ends the connection. */
async function dump({ body }: Received, { signal }: CallOptions): Promise<void> {
  let bytes = 0
  try {
    for await (const piece of body) {
      bytes += piece.length
      if (bytes > DUMPED_BYTES) return
    }
  } catch {
    // Of a page that nobody reads the rest may fail.
    signal.throwIfAborted()
  }
}

/** HTTP/1.1 alone: a GOAWAY of HTTP/2 can make a cut body look whole (security G10). For `receive`. */
function createAgent(connections: number, connect: { lookup?: LookupFunction } = {}): Agent {
  return new Agent({
    connections,
    pipelining: 1,
    allowH2: false,
    connect: createReceivingConnector({ allowH2: false, timeout: UPSTREAM_CONNECT_DEADLINE_MS, ...connect }),
  })
}

/** Without the query: that of a redirect may be a signed permission. */
function shown(url: URL): string {
  return url.origin + url.pathname
}
