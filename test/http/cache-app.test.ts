import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { parseCacheInfo } from '../../src/nix/cache-info.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import { BlockUnavailableError, NarHashMismatchError, NoSourceError } from '../../src/substitute/errors.ts'
import type { SourceId } from '../../src/source.ts'
import {
  bodyOf,
  chunksOf,
  exchange,
  failing,
  getRequest,
  HASH_PART,
  headKnown,
  ORIGIN,
  pattern,
  serve,
  STORE_DIR,
  testCache,
  testNar,
} from './kit.ts'

const nar = testNar(pattern(300_000))
const NAR = `/nar/${nar.info.narHash}.nar`
const NARINFO = `/${HASH_PART}.narinfo`

test('nix-cache-info names the store, asks to be asked, and has a priority', async () => {
  const { app } = testCache(nar)
  const response = await app.request(`${ORIGIN}/nix-cache-info`)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/x-nix-cache-info')
  assert.deepEqual(parseCacheInfo(await response.text()), {
    storeDir: STORE_DIR,
    wantMassQuery: true,
    priority: 30,
  })
})

test('a narinfo that is known goes out whole', async () => {
  const { app, asked } = testCache(nar)
  const response = await app.request(ORIGIN + NARINFO)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/x-nix-narinfo')
  const text = await response.text()
  assert.equal(response.headers.get('content-length'), String(Buffer.byteLength(text)))
  assert.equal(parseNarInfo(text, STORE_DIR).narHash, nar.info.narHash)
  // Its NAR is next.
  assert.ok(asked.includes(`hint ${nar.info.storePath}`))
})

test('a NAR goes out with what every Nix needs to resume it, and never encoded (C17)', async () => {
  const { app } = testCache(nar)
  const response = await app.request(ORIGIN + NAR, { headers: { 'Accept-Encoding': 'zstd, br, gzip, xz' } })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-length'), '300000')
  assert.equal(response.headers.get('accept-ranges'), 'bytes')
  assert.equal(response.headers.get('etag'), `"${nar.info.narHash}"`)
  assert.equal(response.headers.get('content-encoding'), null)
  assert.equal(response.headers.get('content-type'), 'application/x-nix-nar')
  assert.match(response.headers.get('cache-control') ?? '', /immutable/)
  assert.deepEqual(new Uint8Array(await response.arrayBuffer()), new Uint8Array(nar.bytes))
})

for (const path of [NAR, NARINFO, '/nix-cache-info', '/', '/healthz', '/none', NARINFO.replace('7', '8')]) {
  test(`HEAD ${path} has the head of its GET, no body, and opens nothing (C14)`, async () => {
    const { app, asked } = testCache(nar)
    const get = await app.request(ORIGIN + path)
    await get.body?.cancel()
    asked.length = 0
    const head = await app.request(ORIGIN + path, { method: 'HEAD' })
    assert.equal(head.status, get.status)
    assert.deepEqual([...head.headers], headKnown(get.headers))
    assert.equal(await head.text(), '')
    assert.deepEqual(
      asked.filter((one) => one.startsWith('open') || one.startsWith('hint')),
      [],
    )
  })
}

const SOURCES: [from: SourceId | undefined, told: string | null][] = [
  ['spool', 'spool'],
  ['rewritten', 'rewritten'],
  ['blocks', 'blocks'],
  ['upstream:https://cache.nixos.org', 'upstream:https://cache.nixos.org'],
  ['neighbour:http://[fe80::1%25eth0]:6278/nar', 'neighbour:http://[fe80::1%25eth0]:6278/nar'],
  ['upstream:file:///cache\r\nSet-Cookie: a=b', 'upstream'],
  [`http:${'a'.repeat(300)}`, 'peer'],
  [undefined, null],
]
for (const [from, told] of SOURCES) {
  test(`a NAR from ${JSON.stringify(from)?.slice(0, 60)} says ${told}`, async (t) => {
    const { app } = testCache(nar, { from })
    const inMemory = await app.request(ORIGIN + NAR, { headers: { Range: 'bytes=5-9' } })
    assert.equal(inMemory.headers.get('x-narswarm-source'), told)
    const { port } = await serve(t, app)
    const onWire = await exchange(t, port, getRequest(port, NAR, ['Range: bytes=5-9']))
    assert.equal(/^X-Narswarm-Source: (.*)\r$/m.exec(onWire)?.[1] ?? null, told)
    assert.equal(bodyOf(onWire).length, 5)
  })
}

const ETAG = `"${nar.info.narHash}"`
/** C12 and C13. */
const SELECTIONS: [headers: Record<string, string>, status: number, range?: [start: number, end: number]][] =
  [
    [{}, 200, [0, 300_000]],
    [{ Range: 'bytes=0-0' }, 206, [0, 1]],
    [{ Range: 'bytes=299999-' }, 206, [299_999, 300_000]],
    [{ Range: 'bytes=100000-199999' }, 206, [100_000, 200_000]],
    [{ Range: 'bytes=-5' }, 206, [299_995, 300_000]],
    [{ Range: 'bytes=10-99999999' }, 206, [10, 300_000]],
    [{ Range: 'bytes=300000-' }, 416],
    [{ Range: 'bytes=-0' }, 416],
    [{ Range: 'bytes=5-2' }, 200, [0, 300_000]],
    [{ Range: 'bytes=0-1,5-6' }, 200, [0, 300_000]],
    [{ Range: 'lines=0-1' }, 200, [0, 300_000]],
    [{ Range: 'bytes=1-', 'If-Range': ETAG }, 206, [1, 300_000]],
    [{ Range: 'bytes=1-', 'If-Range': '"another"' }, 200, [0, 300_000]],
    [{ Range: 'bytes=1-', 'If-Range': `W/${ETAG}` }, 200, [0, 300_000]],
    [{ Range: 'bytes=1-', 'If-Range': 'Sat, 22 Nov 2026 00:00:00 GMT' }, 200, [0, 300_000]],
    [{ 'If-None-Match': ETAG }, 304],
    [{ 'If-None-Match': `"another", W/${ETAG}` }, 304],
    [{ 'If-None-Match': '*' }, 304],
    [{ 'If-None-Match': '"another"' }, 200, [0, 300_000]],
    [{ 'If-None-Match': ETAG, Range: 'bytes=1-' }, 304],
    [{ 'If-None-Match': '"another"', Range: 'bytes=1-' }, 206, [1, 300_000]],
  ]
for (const [headers, status, range] of SELECTIONS) {
  test(`NAR with ${JSON.stringify(headers).replaceAll(nar.info.narHash, 'HASH')} -> ${status}`, async () => {
    const { app, asked } = testCache(nar)
    const response = await app.request(ORIGIN + NAR, { headers })
    assert.equal(response.status, status)
    if (range === undefined) {
      assert.equal(response.headers.get('content-range'), status === 416 ? 'bytes */300000' : null)
      assert.deepEqual(
        asked.filter((one) => one.startsWith('open')),
        [],
      )
      return
    }
    const [start, end] = range
    assert.ok(asked.includes(`open ${start}-${end}`))
    assert.equal(response.headers.get('content-length'), String(end - start))
    assert.equal(
      response.headers.get('content-range'),
      status === 206 ? `bytes ${start}-${end - 1}/300000` : null,
    )
    assert.equal(response.headers.get('etag'), ETAG)
    assert.deepEqual(
      new Uint8Array(await response.arrayBuffer()),
      new Uint8Array(nar.bytes.subarray(start, end)),
    )
  })
}

/** C19: no part of the program is asked. */
const MALFORMED = [
  '/none',
  '/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdq.narinfo',
  '/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqqq.narinfo',
  '/7C5ZRPAJQ5YDLG2ZBBNFS1L4LWBXSDQQ.narinfo',
  '/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee.narinfo',
  `${NARINFO}/`,
  `${NARINFO}x`,
  '/7C5ZRPAJQ5YDLG2ZBBNFS1L4LWBXSDQQ.ls',
  '/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq.LS',
  '/realisations/sha256:0!out.doi',
  '/build-trace-v2/x.drv/out.doi',
  '/debuginfo/00.debug',
  `${NAR}.xz`,
  NAR.replace(/.\.nar$/, '.nar'),
  `/nar/${'z'.repeat(52)}.nar`,
  '/nar/',
  '/nar',
  `/nar//${nar.info.narHash}.nar`,
  `/nar/${nar.info.narHash}.nar/x`,
  '/nar/..%252f..%252fetc%252fpasswd',
  '//evil/nar/x',
  '/constructor',
  '/__proto__',
]
for (const path of MALFORMED) {
  test(`${path} is a 404 that nobody stores, without a question to anyone`, async () => {
    const { app, asked } = testCache(nar)
    const response = await app.request(ORIGIN + path)
    assert.equal(response.status, 404)
    assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.deepEqual(asked, [])
  })
}

test('unknown but well-formed names are 404s that nobody stores', async () => {
  const { app, asked } = testCache(nar)
  for (const path of [
    NARINFO.replace('7', '8'),
    NAR.replace(/[0-9a-z](?=\.nar$)/, '0').replace('/nar/0', '/nar/1'),
  ]) {
    const response = await app.request(ORIGIN + path)
    assert.equal(response.status, 404, path)
    assert.equal(response.headers.get('cache-control'), 'no-store')
  }
  assert.equal(asked.filter((one) => one.startsWith('open')).length, 0)
})

test('percent-encoded names mean the same, decoded once (nix-protocol 0.8)', async () => {
  const { app } = testCache(nar)
  assert.equal((await app.request(ORIGIN + NARINFO.replace('.narinfo', '%2Enarinfo'))).status, 200)
  assert.equal((await app.request(ORIGIN + NARINFO.replace('.narinfo', '%252Enarinfo'))).status, 404)
})

const SECRET = '/var/lib/narswarm/spool/zz'
const FAILURES: [title: string, error: Error, level: string][] = [
  ['NoSourceError', new NoSourceError(SECRET), 'warn'],
  ['BlockUnavailableError', new BlockUnavailableError(SECRET), 'warn'],
  ['NarHashMismatchError', new NarHashMismatchError(SECRET), 'warn'],
  ['a deadline', new DOMException(SECRET, 'TimeoutError'), 'warn'],
  ['a bug', new TypeError(SECRET), 'error'],
]
for (const [title, error, level] of FAILURES) {
  /** Nix must not see 5xx [nix-protocol 0.1], nor anyone what our folders are called (C20). */
  test(`${title} behind any route is a plain 404 for Nix and one line in the log`, async () => {
    const fail = () => Promise.reject(error)
    const places = {
      narinfo: testCache(nar, { resolver: { byHashPart: fail, byNarHash: fail } }),
      open: testCache(nar, { transfers: { hint() {}, open: fail } }),
      'first byte': testCache(nar, { read: () => failing(error) }),
    }
    for (const [place, { app, log }] of Object.entries(places)) {
      const response = await app.request(ORIGIN + (place === 'narinfo' ? NARINFO : NAR))
      assert.equal(response.status, 404, place)
      assert.equal(response.headers.get('cache-control'), 'no-store')
      assert.equal(await response.text(), 'not found\n')
      assert.deepEqual(
        log.lines.map((line) => [line.level, 'err' in line.fields && line.fields.err]),
        [[level, error]],
        place,
      )
    }
  })
}

test('a source that fails in the middle fails the body, and the log says where', async () => {
  const { app, log } = testCache(nar, {
    async *read(range) {
      yield* chunksOf(nar.bytes, { start: range.start, end: 100_000 })
      throw new NarHashMismatchError('other bytes')
    },
  })
  const response = await app.request(ORIGIN + NAR)
  assert.equal(response.status, 200)
  await assert.rejects(response.arrayBuffer(), NarHashMismatchError)
  assert.deepEqual(
    log.lines.map(({ level, message }) => ({ level, message })),
    [
      {
        level: 'warn',
        message: 'what the sources gave is not the signed NAR: response cut after 100000 bytes',
      },
    ],
  )
})

for (const [title, end] of [
  ['fewer', 299_999],
  ['more', 300_001],
] as const) {
  test(`a source that gives ${title} bytes than the NAR has fails the body before its end`, async () => {
    const { app } = testCache(nar, { read: () => chunksOf(pattern(300_001), { start: 0, end }) })
    const response = await app.request(ORIGIN + NAR)
    await assert.rejects(response.arrayBuffer(), { name: 'BodyLengthError' })
  })
}

test('nothing is read that was not asked for, and a cancelled body stops its source', async () => {
  let given = 0
  let aborted = false
  const freed = Promise.withResolvers<void>()
  const { app, log } = testCache(nar, {
    async *read(range, { signal }) {
      signal.addEventListener('abort', () => (aborted = true))
      try {
        for await (const chunk of chunksOf(nar.bytes, range)) {
          given++
          yield chunk
        }
      } finally {
        freed.resolve()
      }
    },
  })
  const response = await app.request(ORIGIN + NAR)
  // The first one is in hand before the head goes out.
  assert.equal(given, 1)
  const reader = response.body?.getReader()
  await reader?.read()
  await reader?.read()
  assert.equal(given, 2)
  await reader?.cancel()
  await freed.promise
  assert.ok(aborted)
  assert.equal(given, 2)
  assert.deepEqual(log.lines, [])
})

for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'QUERY']) {
  test(`${method} is refused whatever the path (C15)`, async () => {
    const { app, asked } = testCache(nar)
    for (const path of ['/', NAR, NARINFO, '/nix-cache-info', '/none']) {
      const response = await app.request(ORIGIN + path, { method })
      assert.equal(response.status, 405)
      assert.equal(response.headers.get('allow'), 'GET, HEAD')
    }
    assert.deepEqual(asked, [])
  })
}

test('foreign Hosts and sites are refused on every route', async () => {
  const { app, asked } = testCache(nar)
  for (const path of ['/', NAR, NARINFO, '/api/v1/status', '/none']) {
    assert.equal((await app.request(`http://evil:6277${path}`)).status, 403)
    assert.equal((await app.request(ORIGIN + path, { headers: { Origin: ORIGIN } })).status, 403)
  }
  assert.deepEqual(asked, [])
})

test('the page is whole in itself: no script, nothing from elsewhere, its one style allowed by hash', async () => {
  const { app } = testCache(nar, {
    page: () => ({
      profile: 'lan',
      upstreams: ['https://cache.example.org/?a=1&b=<script>'],
      trustedKeys: ['cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='],
      facts: [['NARs in the spool', '12']],
    }),
  })
  const response = await app.request(`${ORIGIN}/`)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8')
  const html = await response.text()
  const [, style = ''] = /<style>([^]*?)<\/style>/.exec(html) ?? []
  const hash = createHash('sha256').update(style).digest('base64')
  const policy = response.headers.get('content-security-policy') ?? ''
  assert.ok(policy.startsWith(`default-src 'none'; style-src 'sha256-${hash}';`), policy)
  assert.doesNotMatch(html, /<script|<img|<link|https?:\/\/(?!cache\.test:6277|cache\.example\.org)| src=/)
  assert.ok(html.includes('extra-substituters = http://cache.test:6277'))
  assert.ok(html.includes('nix.settings.extra-substituters = [ "http://cache.test:6277" ];'))
  assert.ok(html.includes('b=&lt;script&gt;'))
  assert.match(html, /There is no key to add/)
  assert.ok(html.includes('cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='))
})

test('alive, ready, version and status', async () => {
  const { app } = testCache(nar)
  const text = async (path: string) => (await app.request(ORIGIN + path)).text()
  assert.equal(await text('/healthz'), 'ok\n')
  assert.equal(await text('/health'), 'ok\n')
  assert.equal(await text('/readyz'), 'ready\n')
  assert.equal(await text('/version'), 'narswarm 0.0.0-test\n')
  assert.deepEqual(JSON.parse(await text('/api/v1/status')), { profile: 'private' })
  const starting = testCache(nar, { notReady: () => 'the feeds are not read yet' })
  const response = await starting.app.request(`${ORIGIN}/readyz`)
  assert.equal(response.status, 503)
  assert.equal(await response.text(), 'the feeds are not read yet\n')
})
