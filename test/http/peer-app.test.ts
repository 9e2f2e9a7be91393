import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerAppDeps } from '../../src/http/peer-app.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { chunksOf, failing, HASH_PART, pattern, testNar, testPeer } from './kit.ts'

const ORIGIN = 'http://10.0.0.7:6278'
const nar = testNar(pattern(200_000))
const NAR = `/nar/${nar.info.narHash}.nar`
const FEED = 'narswarm.example.org/main'

function peerWith(changes: Partial<PeerAppDeps> = {}) {
  const feedReads: string[] = []
  const feeds: PeerAppDeps['feeds'] = {
    read(name, path) {
      feedReads.push(`${name} ${path}`)
      return Promise.resolve(name === FEED ? Buffer.from(`file ${path}`) : undefined)
    },
  }
  return { ...testPeer([nar], { feeds, ...changes }), feedReads }
}

test('a peer is a binary cache of what it holds', async () => {
  const { app } = peerWith()
  assert.equal((await app.request(`${ORIGIN}/nix-cache-info`)).status, 200)
  assert.match(await (await app.request(`${ORIGIN}/${HASH_PART}.narinfo`)).text(), /^StorePath: /)
  const response = await app.request(ORIGIN + NAR, { headers: { Range: 'bytes=100-199' } })
  assert.equal(response.status, 206)
  assert.equal(response.headers.get('content-range'), 'bytes 100-199/200000')
  assert.deepEqual(new Uint8Array(await response.arrayBuffer()), new Uint8Array(nar.bytes.subarray(100, 200)))
})

test('what it does not hold is a 404, and nothing is listed', async () => {
  const { app } = peerWith()
  for (const path of [
    '/',
    '/nar',
    '/nar/',
    '/ipfs',
    '/ipfs/',
    '/feed',
    '/feed/',
    '/api/v1/status',
    '/metrics',
    `/${HASH_PART}.ls`,
    `/log/${HASH_PART}-x.drv`,
    `/realisations/sha256:${'0'.repeat(64)}!out.doi`,
    `/build-trace-v2/${HASH_PART}-x.drv/out.doi`,
    `/debuginfo/${'4f'.repeat(20)}.debug`,
  ]) {
    assert.equal((await app.request(ORIGIN + path)).status, 404, path)
  }
  assert.equal((await app.request(`${ORIGIN}/${HASH_PART.replace('7', '8')}.narinfo`)).status, 404)
})

test('peers come under any name, browsers under none', async () => {
  const { app } = peerWith()
  assert.equal((await app.request(`http://laptop.lan:6278${NAR}`)).status, 200)
  for (const path of [NAR, `/ipfs/${nar.plan.root.toString()}?format=raw`, `/feed/${FEED}/root/1`]) {
    assert.equal((await app.request(ORIGIN + path, { headers: { Origin: 'http://evil' } })).status, 403)
    assert.equal(
      (await app.request(ORIGIN + path, { headers: { 'Sec-Fetch-Site': 'cross-site' } })).status,
      403,
    )
    assert.equal((await app.request(ORIGIN + path, { method: 'POST' })).status, 405)
  }
})

test('a held NAR that cannot be read is a 404 on the routes that Nix uses', async () => {
  const { app, log } = peerWith({
    holdings: {
      narInfo: () => undefined,
      openNar: () => ({ narSize: 5, read: () => failing(new BlockUnavailableError('collected')) }),
      narSizeOf: () => undefined,
    },
  })
  assert.equal((await app.request(ORIGIN + NAR)).status, 404)
  assert.equal(log.lines.length, 1)
})

const FEED_FILES: [path: string, type: string, cache: RegExp][] = [
  ['root/1', 'text/plain; charset=utf-8', /immutable/],
  ['e1/checkpoint', 'text/plain; charset=utf-8', /^no-store$/],
  ['e1/tile/0/000', 'application/octet-stream', /immutable/],
  ['e1/tile/0/x001/234.p/7', 'application/octet-stream', /immutable/],
  ['e1/tile/entries/000', 'application/octet-stream', /immutable/],
]
for (const [path, type, cache] of FEED_FILES) {
  test(`feed file ${path}`, async () => {
    const { app, feedReads } = peerWith()
    const response = await app.request(`${ORIGIN}/feed/${FEED}/${path}`)
    assert.equal(response.status, 200)
    assert.equal(await response.text(), `file ${path}`)
    assert.equal(response.headers.get('content-type'), type)
    assert.match(response.headers.get('cache-control') ?? '', cache)
    assert.deepEqual(feedReads, [`${FEED} ${path}`])
    const head = await app.request(`${ORIGIN}/feed/${FEED}/${path}`, { method: 'HEAD' })
    assert.equal(head.status, 200)
    assert.equal(await head.text(), '')
  })
}

for (const path of [
  FEED,
  `${FEED}/`,
  `${FEED}/root/0`,
  `${FEED}/root/01`,
  `${FEED}/checkpoint`,
  `${FEED}/e1/tile/0/1234`,
  `${FEED}/e1/tile/0/000.p/256`,
  `${FEED}/e1/tile/0/..%2f..%2f000`,
  `${FEED}/keys/log.key`,
  `${FEED}%2froot/..%252f`,
]) {
  test(`/feed/${path} is no file of a feed, and nobody is asked for it`, async () => {
    const { app, feedReads } = peerWith()
    const response = await app.request(`${ORIGIN}/feed/${path}`)
    assert.ok([400, 404].includes(response.status), String(response.status))
    assert.deepEqual(feedReads, [])
  })
}

test('a feed that is not here is a 404; a feed that cannot be read is a 500', async () => {
  const { app } = peerWith()
  assert.equal((await app.request(`${ORIGIN}/feed/other.example.org/x/root/1`)).status, 404)
  const broken = peerWith({ feeds: { read: () => Promise.reject(new Error('EIO')) } })
  assert.equal((await broken.app.request(`${ORIGIN}/feed/${FEED}/root/1`)).status, 500)
})

test('a NAR on its way is for those who check it themselves, and for nobody to keep', async () => {
  const asked: string[] = []
  const { app } = peerWith({
    holdings: { narInfo: () => undefined, openNar: () => undefined, narSizeOf: () => undefined },
    underWay: {
      open(narHash, wait) {
        asked.push(`${narHash} ${wait.begunMs} ${wait.expectedMs}`)
        return Promise.resolve({ narSize: nar.info.narSize, read: (range) => chunksOf(nar.bytes, range) })
      },
    },
  })
  assert.equal((await app.request(ORIGIN + NAR)).status, 404)
  assert.equal((await app.request(ORIGIN + NAR, { headers: { 'narswarm-along': 'yes' } })).status, 404)
  assert.deepEqual(asked, [])
  const headers = { 'narswarm-along': 'begun=300, expected=0' }
  const head = await app.request(ORIGIN + NAR, { method: 'HEAD', headers })
  assert.equal(head.status, 200)
  assert.equal(head.headers.get('content-length'), '200000')
  const response = await app.request(ORIGIN + NAR, { headers: { ...headers, range: 'bytes=5-' } })
  assert.equal(response.status, 206)
  assert.equal(response.headers.get('cache-control'), 'no-store')
  assert.deepEqual(new Uint8Array(await response.arrayBuffer()), new Uint8Array(nar.bytes.subarray(5)))
  assert.deepEqual(
    asked,
    Array.from({ length: 2 }, () => `${nar.info.narHash} 300 0`),
  )
})

test('what is here is given proved, to whomever', async () => {
  const { app } = peerWith()
  const headers = { 'narswarm-along': 'begun=300, expected=0' }
  const response = await app.request(ORIGIN + NAR, { headers })
  assert.match(response.headers.get('cache-control') ?? '', /immutable/)
})
