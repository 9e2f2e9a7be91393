/** A TCP port before another one; what comes back goes through a line of so many bytes a second, over all connections together. */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { createLine, LINE_PIECE_BYTES } from '../kit/line.ts'

const { port, bytesPerSecond } = JSON.parse(process.argv[2] ?? '{}') as {
  port: number
  bytesPerSecond: number
}
const line = createLine(bytesPerSecond)

async function* through(from: Socket): AsyncGenerator<Uint8Array> {
  for await (const chunk of from as AsyncIterable<Uint8Array>) {
    for (let at = 0; at < chunk.length; at += LINE_PIECE_BYTES) {
      const piece = chunk.subarray(at, at + LINE_PIECE_BYTES)
      await line.carry(piece.length)
      yield piece
    }
  }
}

const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ host: '127.0.0.1', port, noDelay: true })
  Promise.all([pipeline(near, far), pipeline(through(far), near)]).catch(() => {
    near.destroy()
    far.destroy()
  })
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
