import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { parseCid } from '../../src/dag/cid.ts'
import { CACHE_INFO_MAX_BYTES, NARINFO_MAX_BYTES } from '../../src/limits.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { SourceFaultError, SourceLieError } from '../../src/source.ts'
import { UpstreamUnfitError } from '../../src/upstream/errors.ts'
import { createUpstream, type Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { calm } from './bytes.ts'
import { body, serveCache, status, type Answer } from './cache-server.ts'
import { freshHosts } from './hosts.ts'

const storeDir = '/nix/store'
const HASH = '1h8dfzby9lsfkb09q7kga2pa2hzg3sv2' as HashPart
const CID = 'bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq'
const LINES = {
  StorePath: `/nix/store/${HASH}-hello-1.0`,
  URL: 'nar/hello.nar.xz',
  Compression: 'xz',
  NarHash: 'sha256:0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5',
  NarSize: '96',
  References: '',
}

function narInfo(changes: Record<string, string> = {}): string {
  return Object.entries({ ...LINES, ...changes })
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('')
}

async function upstreamOf(t: TestContext, answers: Record<string, Answer>): Promise<Upstream> {
  const { url } = await serveCache(t, answers)
  const deadlines = { narInfoMs: 300 }
  const upstream = createUpstream(
    { url, storeDir, deadlines },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => upstream.close())
  return upstream
}

const asked = `/${HASH}.narinfo`

void test('a narinfo is a candidate with a stream of its NAR', async (t) => {
  const upstream = await upstreamOf(t, { [asked]: body(narInfo()) })
  const candidate = await upstream.lookup(HASH, calm)
  assert.equal(candidate?.info.storePath, `${HASH}-hello-1.0`)
  assert.equal(candidate?.info.compression, 'xz')
  assert.equal(candidate?.from, upstream.id)
  assert.equal(candidate?.stream?.id, upstream.id)
  assert.equal(candidate?.cid, undefined)
  assert.match(upstream.id, /^upstream:http:\/\/127\.0\.0\.1:[0-9]+$/)
  assert.equal('hashParts' in upstream, false)
})

void test('a CID line is read, a malformed one ignored', async (t) => {
  const good = await upstreamOf(t, { [asked]: body(narInfo({ CID })) })
  assert.equal((await good.lookup(HASH, calm))?.cid?.toString(), parseCid(CID).toString())
  const other = await upstreamOf(t, {
    [asked]: body(narInfo({ CID: 'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG' })),
  })
  const candidate = await other.lookup(HASH, calm)
  assert.equal(candidate?.info.narSize, 96)
  assert.equal(candidate?.cid, undefined)
})

void test('a cache below a path is asked below it', async (t) => {
  const { url } = await serveCache(t, { [`/a/b${asked}`]: body(narInfo()) })
  const upstream = createUpstream(
    { url: new URL('/a/b', url), storeDir },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => upstream.close())
  assert.ok(await upstream.lookup(HASH, calm))
})

for (const code of [401, 403, 404, 410]) {
  void test(`a narinfo with status ${code} is a miss`, async (t) => {
    const upstream = await upstreamOf(t, { [asked]: status(code, {}, '<html>no</html>') })
    assert.equal(await upstream.lookup(HASH, calm), undefined)
  })
}

const endless: Answer = (response) => {
  response.writeHead(200)
  const more = (): void => {
    while (response.write(Buffer.alloc(65_536, 'a')));
  }
  response.on('drain', more)
  more()
}
const silent: Answer = () => {}
const cut: Answer = (response) => {
  response.writeHead(200, { 'content-length': '1000' })
  response.write('StorePath: ')
  setImmediate(() => response.destroy())
}
const reset: Answer = (response) => response.destroy()
const trickle: Answer = (response) => {
  response.writeHead(200)
  const timer = setInterval(() => response.write('a'), 20)
  response.on('close', () => clearInterval(timer))
}

const FAULTS: readonly [string, Answer, RegExp][] = [
  ['500', status(500), /expected status 200, got 500/],
  ['502 with HTML', status(502, { 'content-type': 'text/html' }, '<html>'), /got 502/],
  ['503 and Retry-After', status(503, { 'retry-after': '120' }), /got 503, Retry-After "120"/],
  ['429', status(429), /got 429/],
  ['204', status(204), /got 204/],
  ['304', status(304), /got 304/],
  ['206 that nobody asked for', status(206, {}, narInfo()), /got 206/],
  ['a cut body', cut, /127\.0\.0\.1/],
  ['a reset', reset, /127\.0\.0\.1/],
  ['no answer', silent, /no answer within 300 ms/],
  ['a byte now and then', trickle, /no answer within 300 ms/],
  ['a redirect to itself', status(302, { location: asked }), /more than 3 redirects/],
  ['a redirect without a Location', status(302), /status 302 without one Location/],
  [
    'a redirect to the metadata service',
    status(302, { location: 'http://169.254.169.254/' }),
    /redirected from http/,
  ],
  ['a redirect to another port', status(307, { location: 'http://127.0.0.1:9/' }), /redirected from http/],
  ['a redirect to a file', status(301, { location: 'file:///etc/passwd' }), /redirected from http/],
]
for (const [name, answer, expected] of FAULTS) {
  void test(`a narinfo with ${name} is a fault of the source`, async (t) => {
    const upstream = await upstreamOf(t, { [asked]: answer })
    await assert.rejects(upstream.lookup(HASH, calm), (error) => {
      assert.ok(error instanceof SourceFaultError, String(error))
      assert.equal(error.source, upstream.id)
      assert.match(error.message, expected)
      return true
    })
  })
}

const LIES: readonly [string, Answer, RegExp][] = [
  ['HTML', body('<!DOCTYPE html>\n<html><body>Please log in</body></html>\n'), /narinfo/],
  ['an empty body', body(''), /narinfo/],
  ['an endless body', endless, new RegExp(`more than the ${NARINFO_MAX_BYTES} bytes`)],
  ['a body that is no UTF-8', body(Buffer.from([0xff, 0xfe, 0x0a])), /expected UTF-8/],
  ['a byte order mark', body(`\uFEFF${narInfo()}`), /narinfo/],
  ['an unknown Content-Encoding', body(narInfo(), { 'content-encoding': 'aes128gcm' }), /got "aes128gcm"/],
  [
    'Content-Encoding: gzip, and none',
    body(narInfo(), { 'content-encoding': 'gzip' }),
    /gzip: incorrect header/,
  ],
  [
    'a gzip bomb as Content-Encoding',
    body(gzipSync(Buffer.alloc(NARINFO_MAX_BYTES + 1, 'a')), { 'content-encoding': 'gzip' }),
    new RegExp(`gzip: more than the ${NARINFO_MAX_BYTES} bytes`),
  ],
  [
    'another path',
    body(narInfo({ StorePath: `/nix/store/${'0'.repeat(32)}-hello-1.0` })),
    /expected a store path with/,
  ],
  ['another store', body(narInfo({ StorePath: `/gnu/store/${HASH}-hello-1.0` })), /StorePath/],
  ['an unknown compression', body(narInfo({ Compression: 'XZ' })), /Compression/],
  ['a URL of another host', body(narInfo({ URL: 'http://169.254.169.254/x' })), /URL: expected a file below/],
  ['a URL without a scheme', body(narInfo({ URL: '//evil/x' })), /URL: expected a file below/],
  ['a URL that leads up', body(narInfo({ URL: '../../x' })), /URL: expected a file below/],
  ['a URL with a carriage return', body(narInfo({ URL: 'nar/x\r' })), /URL/],
]
for (const [name, answer, expected] of LIES) {
  void test(`a narinfo with ${name} is a lie of the source`, async (t) => {
    const upstream = await upstreamOf(t, { [asked]: answer })
    await assert.rejects(upstream.lookup(HASH, calm), (error) => {
      assert.ok(error instanceof SourceLieError, String(error))
      assert.match(error.message, expected)
      return true
    })
  })
}

const PACKED: readonly [string, (text: string) => Buffer][] = [
  ['identity', (text) => Buffer.from(text)],
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['br', brotliCompressSync],
  ['zstd', zstdCompressSync],
]
for (const [encoding, pack] of PACKED) {
  void test(`a narinfo with Content-Encoding ${encoding} is read, though none was asked for`, async (t) => {
    const answer = body(pack(narInfo()), { 'content-encoding': encoding })
    const upstream = await upstreamOf(t, { [asked]: answer })
    assert.equal((await upstream.lookup(HASH, calm))?.info.narSize, 96)
  })
}

void test('redirects within the origin are followed', async (t) => {
  const upstream = await upstreamOf(t, {
    [asked]: status(302, { location: '/one' }),
    '/one': status(308, { location: 'two' }),
    '/two': body(narInfo()),
  })
  assert.ok(await upstream.lookup(HASH, calm))
})

void test('a host that is not there is a fault of the source', async (t) => {
  const upstream = createUpstream(
    { url: new URL('http://127.0.0.1:1'), storeDir },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => upstream.close())
  await assert.rejects(upstream.lookup(HASH, calm), /ECONNREFUSED/)
})

void test("an abort is the caller's own reason", async (t) => {
  const upstream = await upstreamOf(t, { [asked]: silent })
  const reason = new Error('enough')
  const abort = new AbortController()
  setImmediate(() => abort.abort(reason))
  await assert.rejects(upstream.lookup(HASH, { signal: abort.signal }), (error) => error === reason)
})

const CACHE_INFOS: readonly [string, string, number, boolean][] = [
  ['that of cache.nixos.org', 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n', 40, true],
  ['carriage returns', 'StoreDir: /nix/store\r\nWantMassQuery: 1\r\nPriority: 30\r\n', 30, true],
  ['no store directory', 'WantMassQuery: 1\n', 100, true],
  ['a priority past all bounds', 'StoreDir: /nix/store\nPriority: 99999999999999999999\n', 100, false],
  ['a negative priority', 'StoreDir: /nix/store\nPriority: -1\n', 100, false],
  ['a priority that is no number', 'StoreDir: /nix/store\nPriority: abc\n', 100, false],
  ['a mass query of 2', 'StoreDir: /nix/store\nWantMassQuery: 2\nPriority: 1\n', 1, false],
]
for (const [name, text, priority, wantMassQuery] of CACHE_INFOS) {
  void test(`nix-cache-info with ${name}`, async (t) => {
    const upstream = await upstreamOf(t, { '/nix-cache-info': body(text) })
    assert.deepEqual(await upstream.cacheInfo(calm), { priority, wantMassQuery })
  })
}

const UNFIT: readonly [string, Answer, RegExp][] = [
  [
    'another store',
    body('StoreDir: /gnu/store\n'),
    /is for the store "\/gnu\/store", and ours is \/nix\/store/,
  ],
  ['a page of HTML', body('<html>\n<style>a{color: red}</style></html>\n'), /is not used: nix-cache-info/],
  ['nothing in it', body(''), /is not used: nix-cache-info/],
  [
    '10 MiB',
    body(Buffer.alloc(10 * 2 ** 20, 'a')),
    new RegExp(`more than the ${CACHE_INFO_MAX_BYTES} bytes`),
  ],
  ['no end', endless, new RegExp(`more than the ${CACHE_INFO_MAX_BYTES} bytes`)],
  ['status 404', status(404), /it has no nix-cache-info/],
]
for (const [name, answer, expected] of UNFIT) {
  void test(`a cache whose nix-cache-info has ${name} is not asked for narinfos`, async (t) => {
    const upstream = await upstreamOf(t, { '/nix-cache-info': answer, [asked]: body(narInfo()) })
    assert.ok(await upstream.lookup(HASH, calm))
    await assert.rejects(upstream.cacheInfo(calm), (error) => {
      assert.ok(error instanceof UpstreamUnfitError, String(error))
      assert.match(error.message, expected)
      return true
    })
    assert.equal(await upstream.lookup(HASH, calm), undefined)
  })
}

void test('a cache that was unfit behind a login page is asked again when it is fit', async (t) => {
  let info = body('<html>')
  const upstream = await upstreamOf(t, {
    '/nix-cache-info': (response, request) => info(response, request),
    [asked]: body(narInfo()),
  })
  await assert.rejects(upstream.cacheInfo(calm), UpstreamUnfitError)
  info = status(500)
  await assert.rejects(upstream.cacheInfo(calm), SourceFaultError)
  assert.equal(await upstream.lookup(HASH, calm), undefined)
  info = body('StoreDir: /nix/store\n')
  await upstream.cacheInfo(calm)
  assert.ok(await upstream.lookup(HASH, calm))
})

for (const href of [
  'https://user:secret@cache.nixos.org',
  'https://cache.nixos.org?priority=1',
  's3://bucket',
  'ftp://x/',
]) {
  void test(`an upstream of ${href} is refused`, () => {
    assert.throws(
      () =>
        createUpstream({ url: new URL(href), storeDir }, { log: recordingLog(), hosts: freshHosts().hosts }),
      (error) => error instanceof RangeError && !error.message.includes('secret'),
    )
  })
}
