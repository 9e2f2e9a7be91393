import { once } from 'node:events'
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { rangeOf } from '../../kit/range.ts'
import type { Stage } from './stage.ts'

/** A binary cache far away: a folder, over a line that gives each answer so many bytes a second, all of them counted. */
export interface SlowCache {
  readonly url: string
  /** Bytes of NARs it has sent, by file. */
  readonly sent: ReadonlyMap<string, number>
}

const CHUNK_BYTES = 64 * 1024

export async function serveSlowly(stage: Stage, dir: string, bytesPerS: number): Promise<SlowCache> {
  const sent = new Map<string, number>()
  const server = createServer((request, response) => {
    const path = request.url ?? '/'
    const answer = async (): Promise<void> => {
      const body = await readFile(join(dir, path)).catch(() => undefined)
      if (body === undefined) {
        response.writeHead(404).end()
        return
      }
      const { start, end, status, headers } = rangeOf(request.headers.range, body.length)
      response.writeHead(status, headers)
      for (let at = start; at < end && !response.destroyed; at += CHUNK_BYTES) {
        const chunk = body.subarray(at, Math.min(end, at + CHUNK_BYTES))
        if (path.startsWith('/nar/')) {
          sent.set(path, (sent.get(path) ?? 0) + chunk.length)
          await sleep((1000 * chunk.length) / bytesPerS)
        }
        await new Promise((resolve) => void response.write(chunk, resolve))
      }
      response.end()
    }
    answer().catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stage.onEnd(async () => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent }
}
