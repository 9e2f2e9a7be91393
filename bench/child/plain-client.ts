/** Downloads a URL, hashes it, and with `file` keeps it there, safe on disk as a spool file is. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { pipeline } from 'node:stream/promises'

const { url, file } = JSON.parse(process.argv[2] ?? '{}') as { url: string; file?: string }
const begun = performance.now()
const response = await new Promise<IncomingMessage>((resolve) => get(url, resolve))
const hash = createHash('sha256')
let bytes = 0
response.on('data', (chunk: Uint8Array) => {
  hash.update(chunk)
  bytes += chunk.length
})
if (file === undefined) {
  await new Promise((resolve) => response.once('end', resolve))
} else {
  const handle = await open(file, 'wx')
  await pipeline(response, handle.createWriteStream({ flush: true }))
}
hash.digest()
process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, bytes })}\n`)
