import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import { createLine, LINE_PIECE_BYTES } from '../../../bench/kit/line.ts'
import type { Stage } from './stage.ts'

export interface SlowLink {
  readonly url: string
  /** Bytes that came back over it so far, heads and all. */
  readonly carried: () => number
}

/** Another way to the server at this URL, over which so many bytes a second come back. */
export async function startSlowLink(stage: Stage, target: string, bytesPerSecond: number): Promise<SlowLink> {
  const { hostname, port } = new URL(target)
  const line = createLine(bytesPerSecond)
  const sockets = new Set<Socket>()
  let carried = 0
  async function* through(from: Socket): AsyncGenerator<Uint8Array> {
    for await (const chunk of from as AsyncIterable<Uint8Array>) {
      for (let at = 0; at < chunk.length; at += LINE_PIECE_BYTES) {
        const piece = chunk.subarray(at, at + LINE_PIECE_BYTES)
        await line.carry(piece.length)
        carried += piece.length
        yield piece
      }
    }
  }
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    }
    Promise.all([pipeline(near, far), pipeline(through(far), near)]).catch(() => {
      near.destroy()
      far.destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stage.onEnd(async () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, carried: () => carried }
}
