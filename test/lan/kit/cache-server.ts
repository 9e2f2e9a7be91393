import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join, normalize } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { rangeOf } from '../../kit/range.ts'
import type { Host } from './lan.ts'

export interface CacheServer {
  readonly url: string
  /** In the order in which they came; `sent` bytes of the body so far. */
  readonly requests: { readonly path: string; readonly range: string | undefined; sent: number }[]
}

/** A folder over HTTP, with ranges, on a host of the LAN. @param delayMs before each answer */
export async function startCacheServer(host: Host, dir: string, delayMs = 0): Promise<CacheServer> {
  const requests: CacheServer['requests'] = []
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = normalize(request.url ?? '/')
    const { range } = request.headers
    const entry = { path, range, sent: 0 }
    requests.push(entry)
    await sleep(delayMs)
    const file = join(dir, path)
    const found = await stat(file).catch(() => undefined)
    if (found?.isFile() !== true) {
      response.writeHead(404, { 'content-length': 0 }).end()
      return
    }
    const { start, end, status, headers } = rangeOf(range, found.size)
    response.writeHead(status, { ...headers, 'accept-ranges': 'bytes' })
    if (request.method === 'HEAD' || start >= end) {
      response.end()
      return
    }
    const bytes = createReadStream(file, { start, end: end - 1 })
    await pipeline(
      bytes.on('data', (piece) => (entry.sent += piece.length)),
      response,
    )
  }
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  return { url: await host.listen(server, host.address), requests }
}
