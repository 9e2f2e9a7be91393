import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { rangeOf } from '../kit/range.ts'

/** Answers a request for one path. */
export type Answer = (response: ServerResponse, request: Parameters<RequestListener>[0]) => void

export interface CacheServer {
  readonly url: URL
  /** Method, path and Range of each request. */
  readonly requests: { path: string; range: string | undefined }[]
}

/** A web server on loopback that answers as its table says, and 404 for all else. */
export async function serveCache(
  t: TestContext,
  answers: Readonly<Record<string, Answer>>,
): Promise<CacheServer> {
  const requests: CacheServer['requests'] = []
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    requests.push({ path, range: request.headers.range })
    const answer = answers[path]
    if (answer === undefined) response.writeHead(404).end()
    else answer(response, request)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), requests }
}

export function body(bytes: string | Uint8Array, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(200, { 'content-length': Buffer.byteLength(bytes), ...headers }).end(bytes)
  }
}

export function status(code: number, headers: Record<string, string> = {}, text = ''): Answer {
  return (response) => {
    response.writeHead(code, headers).end(text)
  }
}

/** As a file server does it: 206 with what a Range from some byte asks for. */
export function ranged(bytes: Uint8Array): Answer {
  return (response, request) => {
    const { start, end, status, headers } = rangeOf(request.headers.range, bytes.length)
    response.writeHead(status, headers).end(bytes.subarray(start, end))
  }
}
