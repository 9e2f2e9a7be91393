import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Stage } from './stage.ts'

/** What is done with one answer. */
export type Deed =
  | { readonly do: 'pass' }
  | { readonly do: 'replace'; readonly body: Uint8Array }
  /** This instead, whether there is such a file or not. */
  | { readonly do: 'say'; readonly status: number; readonly type: string; readonly body: Uint8Array }
  /** The head and so many bytes of the body, then nothing more; or the connection is cut. */
  | { readonly do: 'silence'; readonly after: number; readonly onSilence?: () => void }
  | { readonly do: 'cut'; readonly after: number }
  /** Not even a head; or a 404. */
  | { readonly do: 'never' | 'miss' }

/**
 * @param path with its query
 * @param body empty when there is no such file, which stays a miss unless nothing at all is answered
 */
export type Mischief = (path: string, body: Uint8Array) => Deed | Promise<Deed>

export const PASS: Deed = { do: 'pass' }
const NOTHING = new Uint8Array()

export interface BadServer {
  readonly url: string
  /** Paths with their queries. */
  readonly asked: string[]
  /** Cuts all connections and takes none any more. */
  die(): void
}

/**
 * A web server that passes on what another one, or a folder, has; and does some mischief on the way. No ranges.
 * @param listen makes it listen, and tells its base URL without a slash at the end; on loopback if absent
 */
export async function startBadServer(
  stage: Stage,
  original: URL,
  mischief: Mischief,
  listen: (server: Server) => Promise<string> = listenOnLoopback,
): Promise<BadServer> {
  const base = new URL(original.href.endsWith('/') ? original.href : `${original.href}/`)
  const asked: string[] = []
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').slice(1)
    asked.push(path)
    const answer = async (): Promise<void> => {
      const { status, type, body = NOTHING } = await read(new URL(path, base), stage.signal)
      const deed = await mischief(path, body)
      if (status === 200 || deed.do === 'never' || deed.do === 'say') perform(response, type, body, deed)
      else response.writeHead(status).end()
    }
    answer().catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined))
  })
  const die = (): void => {
    server.close()
    server.closeAllConnections()
  }
  stage.onEnd(async () => die())
  return { url: await listen(server), asked, die }
}

/** On a port of its own. @returns its base URL */
export async function listenOnLoopback(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function perform(response: ServerResponse, type: string, body: Uint8Array, deed: Deed): void {
  const head = { 'Content-Type': type, 'Content-Length': body.length }
  switch (deed.do) {
    case 'pass':
      response.writeHead(200, head).end(body)
      break
    case 'replace':
      response.writeHead(200, { ...head, 'Content-Length': deed.body.length }).end(deed.body)
      break
    case 'say':
      response
        .writeHead(deed.status, { 'Content-Type': deed.type, 'Content-Length': deed.body.length })
        .end(deed.body)
      break
    case 'silence':
      response.writeHead(200, head).write(body.subarray(0, deed.after), () => deed.onSilence?.())
      break
    case 'cut':
      response.writeHead(200, head).write(body.subarray(0, deed.after), () => response.destroy())
      break
    case 'miss':
      response.writeHead(404).end()
      break
    case 'never':
      break
    default:
      deed satisfies never
  }
}

async function read(
  url: URL,
  signal: AbortSignal,
): Promise<{ status: number; type: string; body: Uint8Array | undefined }> {
  if (url.protocol === 'file:') {
    const body = await readFile(url).catch(() => undefined)
    return { status: body === undefined ? 404 : 200, type: 'application/octet-stream', body }
  }
  const answer = await fetch(url, { signal })
  const type = answer.headers.get('content-type') ?? 'application/octet-stream'
  const body = new Uint8Array(await answer.arrayBuffer())
  return { status: answer.status, type, body: answer.status === 200 ? body : undefined }
}

/** A copy with one bit changed, in the middle. */
export function flipBit(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(bytes)
  const at = copy.length >> 1
  copy[at] = (copy[at] ?? 0) ^ 0x10
  return copy
}
