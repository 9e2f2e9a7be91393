/**
 * The sockets of one listener. Requests of one socket are handled one after another, whatever it pipelines; when all
 * places are taken the socket that has been idle longest makes room, so that idle clients cannot shut out a new one.
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { HTTP_MAX_CONNECTIONS, HTTP_MAX_PIPELINED_COUNT } from '../limits.ts'

export interface Connections {
  /** Whether a response is under way there. */
  isBusy(socket: Socket): boolean
  /** Sockets with a request that has no whole answer yet. */
  busy(): number
  /** Idle sockets are closed at once, the others when their response is out. */
  drain(): void
  destroyAll(): void
}

interface Connection {
  /** The first one is under way, the others wait. */
  readonly requests: { incoming: IncomingMessage; outgoing: ServerResponse }[]
}

/** @param accepts closes the sockets of other addresses before a byte of theirs is read */
export function trackConnections(
  server: Server,
  handler: RequestListener,
  accepts: (address: string) => boolean,
): Connections {
  /** Every open socket. */
  const open = new Map<Socket, Connection>()
  /** Those without a request, in the order in which they became idle. */
  const idle = new Set<Socket>()
  let draining = false

  function isBusy(socket: Socket): boolean {
    return (open.get(socket)?.requests.length ?? 0) > 0
  }

  function startNext(socket: Socket, connection: Connection): void {
    const [request] = connection.requests
    if (request === undefined) {
      if (draining) socket.destroySoon()
      else idle.add(socket)
      return
    }
    const { incoming, outgoing } = request
    outgoing.once('close', () => {
      connection.requests.shift()
      if (!open.has(socket)) return
      // Requests that wait have had no promise of an answer.
      if (draining) socket.destroySoon()
      else startNext(socket, connection)
    })
    handler(incoming, outgoing)
  }

  server.on('connection', (socket) => {
    // Without an address: a unix socket, or one that has gone again.
    const { remoteAddress } = socket
    if (draining || (remoteAddress !== undefined && !accepts(remoteAddress))) {
      socket.destroy()
      return
    }
    if (open.size >= HTTP_MAX_CONNECTIONS) {
      const [oldest = socket] = idle
      // At once, since its `close` comes later than the next connection of a burst.
      idle.delete(oldest)
      open.delete(oldest)
      oldest.destroy()
      if (oldest === socket) return
    }
    open.set(socket, { requests: [] })
    idle.add(socket)
    socket.once('close', () => {
      open.delete(socket)
      idle.delete(socket)
    })
  })

  const take: RequestListener = (incoming, outgoing) => {
    const { socket } = incoming
    const connection = open.get(socket)
    if (connection === undefined || connection.requests.length > HTTP_MAX_PIPELINED_COUNT) {
      socket.destroy()
      return
    }
    idle.delete(socket)
    connection.requests.push({ incoming, outgoing })
    if (connection.requests.length === 1) startNext(socket, connection)
  }
  server.on('request', take)
  // Without "100 Continue": nobody here reads the body that waits for it, and the answer comes at once.
  server.on('checkContinue', take)

  return {
    isBusy,
    busy: () => open.size - idle.size,
    drain() {
      draining = true
      for (const socket of idle) socket.destroy()
    },
    destroyAll() {
      for (const socket of open.keys()) socket.destroy()
    },
  }
}
