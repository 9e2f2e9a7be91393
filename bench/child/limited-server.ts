/** A folder over HTTP at so many bytes a second, over all its connections together: a home's line to its upstream. */
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { join } from 'node:path'
import { createLine, LINE_PIECE_BYTES } from '../kit/line.ts'

const { dir, bytesPerSecond } = JSON.parse(process.argv[2] ?? '{}') as { dir: string; bytesPerSecond: number }
const line = createLine(bytesPerSecond)

async function* limited(file: FileHandle, start: number, end: number): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end; at += LINE_PIECE_BYTES) {
    const piece = Buffer.allocUnsafe(Math.min(LINE_PIECE_BYTES, end - at))
    await file.read(piece, 0, piece.length, at)
    await line.carry(piece.length)
    yield piece
  }
}

async function send(path: string, range: string | undefined, response: ServerResponse): Promise<void> {
  const file = await open(join(dir, path)).catch(() => undefined)
  if (file === undefined) {
    response.writeHead(404, { 'content-length': 0 }).end()
    return
  }
  try {
    const { size } = await file.stat()
    const [, from] = /^bytes=([0-9]+)-$/.exec(range ?? '') ?? []
    const start = Number(from ?? 0)
    const headers = { 'content-length': size - start, 'accept-ranges': 'bytes' }
    if (from === undefined) response.writeHead(200, headers)
    else response.writeHead(206, { ...headers, 'content-range': `bytes ${start}-${size - 1}/${size}` })
    await pipeline(limited(file, start, size), response)
  } finally {
    await file.close()
  }
}

const server = createServer((request, response) => {
  response.socket?.setNoDelay()
  send(request.url ?? '/', request.headers.range, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
