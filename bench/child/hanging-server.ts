/** Listens with the smallest queue. Stopped (SIGSTOP) and with its queue full, it lets every connection hang. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

const server = createServer()
server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
