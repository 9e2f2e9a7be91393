/** Downloads a URL and hashes it. */
import { createHash } from 'node:crypto'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'

const { url } = JSON.parse(process.argv[2] ?? '{}') as { url: string }
const begun = performance.now()
const response = await new Promise<IncomingMessage>((resolve) => get(url, resolve))
const hash = createHash('sha256')
let bytes = 0
for await (const chunk of response as AsyncIterable<Uint8Array>) {
  hash.update(chunk)
  bytes += chunk.length
}
hash.digest()
process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, bytes })}\n`)
