/** A listener with hard limits [security 5]. HTTP/1.1 alone: that is all Nix speaks without TLS. */
import { lstat, unlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { RequestListener, Server } from 'node:http'
import type { Socket } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import type { Hono } from 'hono'
import {
  HTTP_CONNECTIONS_CHECK_MS,
  HTTP_HEADERS_TIMEOUT_MS,
  HTTP_KEEP_ALIVE_TIMEOUT_MS,
  HTTP_MAX_HEADERS_COUNT,
  HTTP_MAX_HEADER_BYTES,
  HTTP_MAX_REQUESTS_PER_SOCKET,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_STALL_TIMEOUT_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { trackConnections } from './connections.ts'
import type { Connections } from './connections.ts'
import type { HttpEnv } from './respond.ts'

export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string }

export interface Listener {
  /** With the port that was chosen, when 0 was asked for. */
  readonly address: ListenAddress
  /** Answers under way. */
  answering(): number
  /**
   * Takes no new connection, closes idle ones, and gives responses under way `graceMs` before it cuts them. Resolves when
   * the last socket is closed.
   */
  close(graceMs: number): Promise<void>
}

/** The address is taken, not ours, or not allowed. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
}

/** What node-server takes a request without Host for; the guard refuses it by its raw headers. */
const NO_HOST = 'no-host.invalid'

/**
 * Connections from addresses that `accepts` does not take are closed without a word.
 * `::` listens by IPv4 too, and by that alone on a machine without IPv6.
 *
 * A unix socket is made with mode 0600, and replaces one that a crash left behind: the state directory's lock says that
 * nobody listens there.
 *
 * @throws ListenError
 */
export async function listen(
  app: Hono<HttpEnv>,
  address: ListenAddress,
  deps: { log: Log; accepts?: (address: string) => boolean },
): Promise<Listener> {
  const server = createServer({
    headersTimeout: HTTP_HEADERS_TIMEOUT_MS,
    requestTimeout: HTTP_REQUEST_TIMEOUT_MS,
    keepAliveTimeout: HTTP_KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: HTTP_CONNECTIONS_CHECK_MS,
    maxHeaderSize: HTTP_MAX_HEADER_BYTES,
    insecureHTTPParser: false,
    // The guard answers those without Host, in every version of HTTP.
    requireHostHeader: false,
  })
  server.maxHeadersCount = HTTP_MAX_HEADERS_COUNT
  server.maxRequestsPerSocket = HTTP_MAX_REQUESTS_PER_SOCKET
  server.timeout = HTTP_STALL_TIMEOUT_MS
  const handle = getRequestListener(app.fetch, {
    hostname: NO_HOST,
    // The rest of the process keeps the Request and Response that it knows.
    overrideGlobalObjects: false,
    errorHandler: (error) => lastResort(error, deps.log),
  })
  const handler: RequestListener = (incoming, outgoing) => {
    handle(incoming, outgoing).catch((error: unknown) => {
      deps.log.error({ err: error }, 'a response could not be sent')
      outgoing.destroy()
    })
  }
  const connections = trackConnections(server, handler, deps.accepts ?? (() => true))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    refuseClient(error, socket as Socket, connections)
  })
  await bind(server, address)
  return {
    address: boundAddress(server, address),
    answering: () => connections.busy(),
    close: closer(server, connections),
  }
}

/** What no app saw, or an app threw that is no Error: node-server would say 500, which Nix must not see. */
function lastResort(error: unknown, log: Log): Response {
  if (error instanceof RequestError) return new Response(null, { status: 400 })
  log.error({ err: error }, 'a request failed for an unexpected reason: answered 404')
  return new Response(null, { status: 404, headers: { 'Cache-Control': 'no-store' } })
}

/** What the parser refused. A response under way is cut without a word: text after it would be taken for its body. */
function refuseClient(error: NodeJS.ErrnoException, socket: Socket, connections: Connections): void {
  if (!socket.writable || connections.isBusy(socket)) {
    socket.destroy()
    return
  }
  socket.end(`HTTP/1.1 ${statusLine(error.code)}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () =>
    socket.destroy(),
  )
}

function statusLine(code: string | undefined): string {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return '431 Request Header Fields Too Large'
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return '413 Payload Too Large'
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return '408 Request Timeout'
    default:
      return '400 Bad Request'
  }
}

async function bind(server: Server, address: ListenAddress): Promise<void> {
  if ('path' in address) await removeStaleSocket(address.path)
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException) => {
      if (!('path' in address) && address.host === '::' && NO_IPV6.has(cause.code ?? '')) {
        bind(server, { host: '0.0.0.0', port: address.port }).then(resolve, reject)
        return
      }
      const where = 'path' in address ? address.path : `${address.host}:${address.port}`
      reject(new ListenError(`cannot listen on ${where}: ${cause.message}`, { cause }))
    }
    server.once('error', failed)
    const ready = () => {
      server.off('error', failed)
      resolve()
    }
    if (!('path' in address)) {
      server.listen({ host: address.host, port: address.port }, ready)
      return
    }
    // A pipe is bound within this call, so that it never exists with wider permissions.
    const mask = process.umask(0o177)
    try {
      server.listen({ path: address.path }, ready)
    } finally {
      process.umask(mask)
    }
  })
}

/** What Linux says when IPv6 is off: without the module, and by sysctl. */
const NO_IPV6: ReadonlySet<string> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL'])

async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await lstat(path)).isSocket()) await unlink(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function boundAddress(server: Server, address: ListenAddress): ListenAddress {
  const bound = server.address()
  if ('path' in address || bound === null || typeof bound === 'string') return address
  return { host: bound.address === '0.0.0.0' ? bound.address : address.host, port: bound.port }
}

function closer(server: Server, connections: Connections): (graceMs: number) => Promise<void> {
  let closed: Promise<void> | undefined
  return (graceMs) => {
    closed ??= new Promise<void>((resolve) => {
      const timer = setTimeout(() => connections.destroyAll(), graceMs)
      server.close(() => {
        clearTimeout(timer)
        resolve()
      })
      connections.drain()
    })
    return closed
  }
}
