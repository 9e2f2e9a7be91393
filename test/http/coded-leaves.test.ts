import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { rawCid } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { createWireCount } from '../../src/operations/wire-count.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import { HASH_PART, pattern, serve, testBlocks, testCache, testNar, testPeer } from './kit.ts'
import type { TestNar } from './kit.ts'

const ORIGIN = 'http://10.0.0.7:6278'
const ZSTD = { 'Accept-Encoding': 'zstd' }

function codingPeer(nars: readonly TestNar[]) {
  const blocks = testBlocks(nars)
  const given = createWireCount()
  const { app } = testPeer(nars, { blocks, given })
  const ask = (target: string, headers: Record<string, string> = {}, method = 'GET') =>
    app.request(ORIGIN + target, { method, headers })
  return { app, ask, blocks, given }
}

const nar = testNar(Buffer.concat([pattern(LEAF_BYTES), randomBytes(LEAF_BYTES), pattern(LEAF_BYTES / 2)]))
const leafCid = (at: number): string => rawCid(nar.plan.leaves.subarray(at * 32, at * 32 + 32)).toString()
const words = leafCid(0)
const noise = leafCid(1)
const wordsBytes = Buffer.from(nar.bytes.subarray(0, LEAF_BYTES))
const RAW_TAG = `"${words}.raw"`
const CODED_TAG = `"${words}.raw.zst"`
const target = `/ipfs/${words}?format=raw`

test('a leaf is coded for who asks for zstd, and is another representation', async () => {
  const { ask, given } = codingPeer([nar])
  const response = await ask(target, ZSTD)
  const body = Buffer.from(await response.arrayBuffer())
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-encoding'), 'zstd')
  assert.equal(response.headers.get('content-type'), 'application/vnd.ipld.raw')
  assert.equal(response.headers.get('content-length'), String(body.length))
  assert.equal(response.headers.get('etag'), CODED_TAG)
  assert.equal(response.headers.get('vary'), 'Accept, Accept-Encoding, Available-Dictionary')
  assert.ok(zstdDecompressSync(body).equals(wordsBytes))
  assert.deepEqual(given.total(), { bytes: LEAF_BYTES, wireBytes: body.length })
})

const PLAIN: Record<string, string>[] = [
  {},
  { 'Accept-Encoding': 'identity' },
  { 'Accept-Encoding': 'gzip' },
  { 'Accept-Encoding': 'zstd;q=0' },
  { 'Accept-Encoding': '*' },
]
for (const headers of PLAIN) {
  test(`a leaf goes out as it is for ${JSON.stringify(headers)}`, async () => {
    const { ask, given } = codingPeer([nar])
    // Also when the coded form lies ready.
    for (const round of [1, 2]) {
      const response = await ask(target, headers)
      assert.equal(response.headers.get('content-encoding'), null)
      assert.equal(response.headers.get('etag'), RAW_TAG)
      assert.equal(response.headers.get('vary'), 'Accept, Accept-Encoding, Available-Dictionary')
      assert.ok(wordsBytes.equals(Buffer.from(await response.arrayBuffer())))
      if (round === 1) assert.deepEqual(given.total(), { bytes: LEAF_BYTES, wireBytes: LEAF_BYTES })
      await ask(target, ZSTD)
    }
  })
}

const NEVER_CODED: { title: string; path: string; headers?: Record<string, string> }[] = [
  { title: 'a leaf that does not get smaller', path: `/ipfs/${noise}?format=raw` },
  { title: 'an interior node', path: `/ipfs/${nar.plan.root.toString()}?format=raw` },
  { title: 'a CAR', path: `/ipfs/${nar.plan.root.toString()}?format=car` },
  { title: 'the CAR of a leaf', path: `/ipfs/${words}?format=car` },
  { title: 'the probe', path: '/ipfs/bafkqaaa?format=raw' },
  { title: 'a narinfo', path: `/${HASH_PART}.narinfo` },
  { title: 'a NAR', path: `/nar/${nar.plan.narHash}.nar` },
  { title: 'a range of a leaf', path: target, headers: { Range: 'bytes=0-99999' } },
  { title: 'a leaf that is not here', path: `/ipfs/${rawCid(new Uint8Array(32)).toString()}?format=raw` },
]
for (const { title, path, headers = {} } of NEVER_CODED) {
  test(`never coded: ${title}`, async () => {
    const { ask } = codingPeer([nar])
    const plain = await ask(path, headers)
    const expected = Buffer.from(await plain.arrayBuffer())
    // Twice: what was coded before may lie ready.
    for (const _ of [1, 2]) {
      const response = await ask(path, { ...headers, ...ZSTD })
      assert.equal(response.status, plain.status)
      assert.equal(response.headers.get('content-encoding'), null)
      assert.equal(response.headers.get('etag'), plain.headers.get('etag'))
      assert.ok(expected.equals(Buffer.from(await response.arrayBuffer())))
      await ask(target, ZSTD)
    }
  })
}

test('towards Nix nothing is coded', async () => {
  const { app } = testCache(nar)
  for (const path of [`/nar/${nar.plan.narHash}.nar`, `/${HASH_PART}.narinfo`, '/nix-cache-info']) {
    const response = await app.request(`http://cache.test:6277${path}`, { headers: ZSTD })
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('content-encoding'), null)
    await response.arrayBuffer()
  }
})

test('a range of the coded form does not exist: whoever has a part of it gets the whole', async () => {
  const { ask } = codingPeer([nar])
  const response = await ask(target, { ...ZSTD, Range: 'bytes=10-', 'If-Range': CODED_TAG })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-encoding'), 'zstd')
  assert.ok(zstdDecompressSync(Buffer.from(await response.arrayBuffer())).equals(wordsBytes))
})

const VALIDATED: [title: string, headers: Record<string, string>, status: number, etag: string][] = [
  ['raw asked, raw known', { 'If-None-Match': RAW_TAG }, 304, RAW_TAG],
  ['raw asked, coded known', { 'If-None-Match': CODED_TAG }, 200, RAW_TAG],
  ['zstd asked, raw known', { ...ZSTD, 'If-None-Match': RAW_TAG }, 304, RAW_TAG],
  ['zstd asked, coded known', { ...ZSTD, 'If-None-Match': CODED_TAG }, 304, CODED_TAG],
  ['zstd asked, both known', { ...ZSTD, 'If-None-Match': `${CODED_TAG}, ${RAW_TAG}` }, 304, RAW_TAG],
  ['zstd asked, another known', { ...ZSTD, 'If-None-Match': '"x"' }, 200, CODED_TAG],
]
for (const [title, headers, status, etag] of VALIDATED) {
  test(`validators: ${title}: ${status}`, async () => {
    const response = await codingPeer([nar]).ask(target, headers)
    assert.equal(response.status, status)
    assert.equal(response.headers.get('etag'), etag)
    await response.arrayBuffer()
  })
}

test('HEAD codes nothing, and tells of the coded form once it is there', async () => {
  const { ask, given } = codingPeer([nar])
  const before = await ask(target, ZSTD, 'HEAD')
  assert.equal(before.headers.get('content-length'), String(LEAF_BYTES))
  assert.equal(before.headers.get('content-encoding'), null)
  assert.deepEqual(given.total(), { bytes: 0, wireBytes: 0 })
  const get = await ask(target, ZSTD)
  const after = await ask(target, ZSTD, 'HEAD')
  for (const name of [
    'content-length',
    'content-encoding',
    'etag',
    'vary',
    'content-type',
    'cache-control',
  ]) {
    assert.equal(after.headers.get(name), get.headers.get(name), name)
  }
  assert.equal((await ask(target, {}, 'HEAD')).headers.get('content-length'), String(LEAF_BYTES))
})

test('when the coders have enough to do leaves go out raw, and right', async () => {
  const nars = Array.from({ length: 40 }, (_, at) => testNar(pattern(200_000 + at)))
  const { ask, given } = codingPeer(nars)
  const answers = await Promise.all(
    nars.map(async ({ plan, bytes }) => {
      const response = await ask(`/ipfs/${plan.root.toString()}?format=raw`, { ...ZSTD, Downlink: '1' })
      const body = Buffer.from(await response.arrayBuffer())
      const coded = response.headers.get('content-encoding') === 'zstd'
      assert.ok((coded ? zstdDecompressSync(body) : body).equals(bytes))
      return coded
    }),
  )
  const codedCount = answers.filter(Boolean).length
  assert.ok(codedCount > 0 && codedCount < nars.length, `${codedCount} coded`)
  const { bytes, wireBytes } = given.total()
  assert.ok(wireBytes < bytes)
})

test('a leaf that has gone from disk is a 404, coded or not', async () => {
  const { ask, blocks } = codingPeer([nar])
  blocks.blocks.delete(words)
  assert.equal((await ask(target, ZSTD)).status, 404)
})

test('a leaf that may not be had any more is not given from memory', async () => {
  const { ask, blocks } = codingPeer([nar])
  assert.equal((await ask(target, ZSTD)).status, 200)
  blocks.blocks.delete(words)
  assert.equal((await ask(target, ZSTD)).status, 404)
})

test('leaves come through sockets as they are, coded or not', async (t) => {
  const parts = fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 600_000 }).map(pattern),
      fc.integer({ min: 1, max: 600_000 }).map((size) => randomBytes(size)),
    ),
    { minLength: 1, maxLength: 4 },
  )
  let wireBytes = 0
  let bytes = 0
  await fc.assert(
    fc.asyncProperty(parts, async (some) => {
      const one = testNar(Buffer.concat(some))
      const { app, given } = codingPeer([one])
      const { port } = await serve(t, app)
      const source = createGatewaySource({ url: `http://127.0.0.1:${port}` })
      try {
        await Promise.all(
          Array.from({ length: Math.ceil(one.bytes.length / LEAF_BYTES) }, async (_, at) => {
            const cid = rawCid(one.plan.leaves.subarray(at * 32, at * 32 + 32))
            const got = await source.fetch(
              { cid, maxBytes: LEAF_BYTES, into: new Uint8Array(LEAF_BYTES) },
              { signal: AbortSignal.timeout(30_000) },
            )
            assert.ok(Buffer.from(one.bytes.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES)).equals(got))
          }),
        )
      } finally {
        await source.close()
      }
      bytes += given.total().bytes
      wireBytes += given.total().wireBytes
    }),
    { numRuns: 15 },
  )
  assert.ok(wireBytes < bytes, `${wireBytes} of ${bytes}`)
})
