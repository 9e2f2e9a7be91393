/** A binary cache of large NARs that are on no disk: each 1 MiB of each is another stretch of the same random bytes. */
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { formatCacheInfo } from '../../src/nix/cache-info.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { formatPublicKey, generateSecretKey } from '../../src/nix/key.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { sign } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'

const { count, bytes } = JSON.parse(process.argv[2] ?? '{}') as { count: number; bytes: number }
const STORE_DIR = '/nix/store'
const PIECE_BYTES = 1024 * 1024
const STEP_BYTES = 64
const pieces = Math.ceil(bytes / PIECE_BYTES)
const random = randomBytes(PIECE_BYTES + count * pieces * STEP_BYTES)
const key = generateSecretKey('bench-1', randomBytes)
const { frame, contentStarts, narSize } = layoutNar({
  type: 'regular',
  size: bytes,
  executable: false,
  path: '',
})
const [contentStart = frame.length] = contentStarts

function* narOf(index: number): Generator<Uint8Array> {
  yield frame.subarray(0, contentStart)
  for (let piece = 0; piece < pieces; piece++) {
    const at = (index * pieces + piece) * STEP_BYTES
    yield random.subarray(at, at + Math.min(PIECE_BYTES, bytes - piece * PIECE_BYTES))
  }
  yield frame.subarray(contentStart)
}

const texts = new Map([
  ['/nix-cache-info', formatCacheInfo({ storeDir: STORE_DIR, wantMassQuery: true, priority: 40 })],
])
const nars = Array.from({ length: count }, (_, index) => {
  const hash = createHash('sha256')
  for (const piece of narOf(index)) hash.update(piece)
  const signed = {
    storePath: parseStorePathBaseName(`${encodeNix32(randomBytes(20))}-many-${index}`),
    narHash: narHashFromDigest(hash.digest()),
    narSize,
    references: [],
  }
  const signatures = [sign(key, fingerprint(signed, STORE_DIR))]
  const path = `${hashPartOf(signed.storePath)}.narinfo`
  const url = `nar/${index}.nar`
  texts.set(`/${path}`, formatNarInfo({ ...signed, url, compression: 'none', signatures }, STORE_DIR))
  return { narInfoPath: path, narHash: signed.narHash }
})

const server = createServer((request, response) => {
  const path = request.url ?? ''
  const [, index] = /^\/nar\/([0-9]+)\.nar$/.exec(path) ?? []
  const text = texts.get(path)
  if (index === undefined) {
    response.writeHead(text === undefined ? 404 : 200, { 'content-length': Buffer.byteLength(text ?? '') })
    response.end(text)
    return
  }
  response.writeHead(200, { 'content-length': narSize })
  pipeline(Readable.from(narOf(Number(index))), response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  process.stdout.write(`${JSON.stringify({ port, publicKey: formatPublicKey(key.publicKey), nars })}\n`)
})
