import { createServer, request } from 'node:http'
import type { RequestOptions, Server } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { LINE_PIECE_BYTES } from '../../../bench/kit/line.ts'
import type { Line } from '../../../bench/kit/line.ts'
import { listenOnLoopback } from './bad-server.ts'
import type { Stage } from './stage.ts'

export interface CountingProxy {
  readonly url: string
  /** In the order in which they came. `status` is 0 while there is no answer, or when the server was gone. */
  readonly requests: {
    readonly path: string
    readonly range: string | undefined
    status: number
    /** Of the body, as it came. */
    bytes: number
  }[]
  /** Waits until the client was sent so many bytes of bodies. */
  until(bytes: number): Promise<void>
}

export interface ProxyPlace {
  /** Makes it listen, and tells its base URL without a slash at the end. */
  readonly listen: (server: Server) => Promise<string>
  readonly createConnection?: RequestOptions['createConnection']
  /** What all bodies take their turns on. */
  readonly line?: Line
}

/** Between a client and a server, such as Nix and narswarm: passes all on as it comes, a cut as a cut, and counts. */
export async function startCountingProxy(
  stage: Stage,
  target: string,
  { listen, createConnection, line }: ProxyPlace = { listen: listenOnLoopback },
): Promise<CountingProxy> {
  const { host, hostname, port } = new URL(target)
  const requests: CountingProxy['requests'] = []
  const sent = { bytes: 0 }
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url ?? '/'
    const entry = { path, range: incoming.headers.range, status: 0, bytes: 0 }
    requests.push(entry)
    const asked = request(
      {
        hostname,
        port,
        path,
        method: incoming.method,
        headers: { ...incoming.headers, host },
        ...(createConnection === undefined ? { agent: false } : { createConnection }),
      },
      (answer) => {
        entry.status = answer.statusCode ?? 0
        outgoing.writeHead(entry.status, answer.headers)
        const count = async function* (parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
          // Else it would wait for the first bytes of the body.
          outgoing.flushHeaders()
          for await (const part of parts) {
            for (let at = 0; at < part.length; at += LINE_PIECE_BYTES) {
              const piece = part.subarray(at, at + LINE_PIECE_BYTES)
              await line?.carry(piece.length)
              entry.bytes += piece.length
              sent.bytes += piece.length
              yield piece
            }
          }
        }
        pipeline(answer, count, outgoing).catch(() => outgoing.destroy())
      },
    )
    asked.on('error', () => outgoing.destroy())
    outgoing.on('close', () => asked.destroy())
    asked.end()
  })
  const url = await listen(server)
  stage.onEnd(async () => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url,
    requests,
    async until(bytes) {
      while (sent.bytes < bytes) await sleep(20, undefined, { signal: stage.signal })
    },
  }
}
