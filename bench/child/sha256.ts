/** sha256 of a file, read as a stream: the floor under publishing. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

const { file } = JSON.parse(process.argv[2] ?? '{}') as { file: string }
const begun = performance.now()
const hash = createHash('sha256')
let bytes = 0
for await (const chunk of createReadStream(file, {
  highWaterMark: 1024 * 1024,
}) as AsyncIterable<Uint8Array>) {
  hash.update(chunk)
  bytes += chunk.length
}
hash.digest()
process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, bytes })}\n`)
