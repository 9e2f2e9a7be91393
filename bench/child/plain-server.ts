/** A file over plain HTTP, as simply as Node does it: the peer that our gateway is held against. */
import { createReadStream, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'

const { file } = JSON.parse(process.argv[2] ?? '{}') as { file: string }
const server = createServer((_, response) => {
  response.writeHead(200, { 'content-length': statSync(file).size })
  pipeline(createReadStream(file), response, () => {})
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
