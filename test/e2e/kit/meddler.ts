import { createServer, request } from 'node:http'
import type { ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { listenOnLoopback } from './bad-server.ts'
import type { Stage } from './stage.ts'

interface Passed {
  readonly path: string
  readonly status: number
}

/** What is done to an answer: other bytes, or nothing any more (`cut`, `hang`). */
export type Meddle = (path: string, body: Buffer) => Meddled | Promise<Meddled>
type Meddled = Buffer | 'cut' | 'hang'

export interface Meddler {
  readonly url: string
  /** What went through, in order. */
  readonly passed: readonly Passed[]
}

/** Stands before a peer listener, and does something to what it says. */
export async function startMeddler(
  stage: Stage,
  target: string,
  meddle: Meddle = (_, body) => body,
): Promise<Meddler> {
  const { hostname, port } = new URL(target)
  const passed: Passed[] = []
  const server = createServer((incoming, outgoing) => {
    const path = incoming.url ?? '/'
    const asked = request(
      { hostname, port, path, method: incoming.method, headers: incoming.headers, agent: false },
      (answer) => {
        const pass = async (): Promise<void> => {
          const body = await buffer(answer)
          const { statusCode: status = 0 } = answer
          const { 'content-length': _, ...headers } = answer.headers
          passed.push({ path, status })
          send(outgoing, await meddle(path, body), status, headers)
        }
        pass().catch(() => outgoing.destroy())
      },
    )
    asked.on('error', () => outgoing.destroy())
    outgoing.on('close', () => asked.destroy())
    asked.end()
  })
  const url = await listenOnLoopback(server)
  stage.onEnd(async () => {
    server.closeAllConnections()
    server.close()
  })
  return { url, passed }
}

function send(
  outgoing: ServerResponse,
  body: Meddled,
  status: number,
  headers: NodeJS.Dict<string | string[]>,
): void {
  if (body === 'hang') return
  if (body === 'cut') outgoing.destroy()
  else outgoing.writeHead(status, { ...headers, 'content-length': body.length }).end(body)
}
