/** Runs on a host of the LAN and makes sockets there for the test, which is elsewhere: a socket stays in the network it was made in. */
import type { SendHandle } from 'node:child_process'
import { connect, createServer } from 'node:net'
import type { SocketAnswer, SocketOrder } from './sockets.ts'

function send(answer: SocketAnswer, handle?: SendHandle): Promise<void> {
  return new Promise((resolve) => process.send?.(answer, handle, {}, () => resolve()))
}

process.on('message', ({ id, kind, host, port }: SocketOrder) => {
  const fail = (error: Error): Promise<void> => send({ id, error: error.message })
  if (kind === 'listen') {
    const server = createServer().once('error', (error) => void fail(error))
    server.listen(port, host, () => {
      // Two listeners on one socket would share what comes.
      void send({ id }, server).then(() => server.close())
    })
  } else {
    const socket = connect({ host, port }).once('error', (error) => void fail(error))
    socket.once('connect', () => void send({ id }, socket))
  }
})
process.once('disconnect', () => process.exit())
