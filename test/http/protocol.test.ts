/** What holds on every route of the cache listener (nix-protocol 0 and A1). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BodyLengthError, cacheFailure, ClientGoneError, GatewayError } from '../../src/http/errors.ts'
import type { FailureKind } from '../../src/http/errors.ts'
import type { FileSource } from '../../src/http/passed-files.ts'
import { ListingError } from '../../src/nix/listing.ts'
import { NarFormatError } from '../../src/nix/nar-reader.ts'
import { NarInfoError } from '../../src/nix/narinfo.ts'
import { SourceFaultError, SourceLieError, SourceMissError } from '../../src/source.ts'
import { SpoolCorruptError, SpoolMissError } from '../../src/spool/errors.ts'
import { StorePathChangedError, StoreUnavailableError } from '../../src/store/errors.ts'
import { BlockUnavailableError, NarHashMismatchError, NoSourceError } from '../../src/substitute/errors.ts'
import { PolicyError } from '../../src/substitute/policy.ts'
import { CompressedDataError, UpstreamUnfitError } from '../../src/upstream/errors.ts'
import {
  bodyOf,
  exchange,
  failing,
  getRequest,
  HASH_PART,
  headKnown,
  ORIGIN,
  pattern,
  serve,
  statusOf,
  testCache,
  testNar,
} from './kit.ts'

const nar = testNar(pattern(100_000))
const { narHash } = nar.info
const NARINFO = `/${HASH_PART}.narinfo`
const NAR = `/nar/${narHash}.nar`
const DRV = `${HASH_PART}-x.drv`
const ID = `sha256:${'0'.repeat(64)}!out`
const BUILD_ID = '4f'.repeat(20)

const FILES: Record<string, string> = {
  [`${HASH_PART}.ls`]: '{"version":1,"root":{}}',
  [`log/${DRV}`]: 'built',
  [`realisations/${ID}.doi`]: JSON.stringify({ id: ID, outPath: `${HASH_PART}-x`, signatures: [] }),
  [`build-trace-v2/${DRV}/out.doi`]: JSON.stringify({ outPath: `${HASH_PART}-x`, signatures: [] }),
  [`debuginfo/${BUILD_ID}.debug`]: JSON.stringify({
    archive: `../nar/${narHash}.nar`,
    member: `lib/debug/.build-id/4f/${'4f'.repeat(19)}.debug`,
  }),
}
const upstreams: FileSource[] = [
  {
    id: 'upstream:test',
    file: (name) =>
      Promise.resolve(FILES[name] === undefined ? undefined : { bytes: Buffer.from(FILES[name]) }),
  },
]

/** Each route where it has something, and where it has nothing. */
const ROUTES: [path: string, status: number][] = [
  ['/', 200],
  ['/nix-cache-info', 200],
  ['/healthz', 200],
  ['/health', 200],
  ['/readyz', 200],
  ['/version', 200],
  ['/api/v1/status', 200],
  [NARINFO, 200],
  [NARINFO.replace('7', '8'), 404],
  [NAR, 200],
  [`${NAR}?hash=${HASH_PART}`, 200],
  [NAR.replace(/.\.nar$/, '0.nar'), 404],
  [`/nar/${narHash}.nar.xz`, 404],
  ['/none', 404],
  ['/nar', 404],
  ...Object.keys(FILES).flatMap((name): [string, number][] => [
    [`/${name}`, 200],
    [`/${name}x`, 404],
  ]),
  [`/log/${DRV.replace('7', '8')}`, 404],
]
const HEADERS: Record<string, string>[] = [
  {},
  { 'Accept-Encoding': 'zstd, br, gzip, deflate, bzip2, xz, *' },
  { 'Accept-Encoding': 'identity;q=0, *;q=0' },
  { Accept: 'application/json' },
]
for (const [path, status] of ROUTES) {
  test(`HEAD ${path} is GET ${path} without its body, and neither is ever encoded`, async () => {
    const { app } = testCache(nar, { upstreams })
    for (const headers of HEADERS) {
      const get = await app.request(ORIGIN + path, { headers })
      const head = await app.request(ORIGIN + path, { headers, method: 'HEAD' })
      const body = await get.arrayBuffer()
      assert.deepEqual([get.status, head.status], [status, status])
      assert.deepEqual([...head.headers], headKnown(get.headers))
      assert.equal((await head.arrayBuffer()).byteLength, 0)
      assert.equal(get.headers.get('content-encoding'), null)
      assert.equal(get.headers.get('transfer-encoding'), null)
      if (status === 404) assert.equal(get.headers.get('cache-control'), 'no-store')
      else assert.equal(get.headers.get('content-length'), String(body.byteLength))
    }
  })

  test(`${path} is never changed by what is sent to it`, async () => {
    const { app } = testCache(nar, { upstreams })
    for (const method of ['PUT', 'POST', 'DELETE', 'PATCH', 'MKCOL', 'OPTIONS']) {
      const response = await app.request(ORIGIN + path, { method })
      assert.equal(response.status, 405)
      assert.equal(response.headers.get('allow'), 'GET, HEAD')
    }
  })

  if (path.startsWith(NAR)) continue
  /** A 304 is an empty, so corrupt, narinfo to Nix, and a 206 half of one [nix-protocol A1]. */
  test(`${path} is whole or not there, whatever is asked about its state`, async () => {
    const { app } = testCache(nar, { upstreams })
    const headers = {
      'If-None-Match': '*',
      'If-Modified-Since': new Date().toUTCString(),
      'If-Match': '"x"',
      'If-Range': '"x"',
      Range: 'bytes=0-0',
    }
    assert.equal((await app.request(ORIGIN + path, { headers })).status, status)
    assert.equal((await app.request(ORIGIN + path, { headers, method: 'HEAD' })).status, status)
  })
}

test('HEAD of a NAR with a Range is that of the whole (RFC 9110 14.2)', async () => {
  const { app } = testCache(nar)
  for (const range of ['bytes=1-2', 'bytes=-5', 'bytes=999999999-', 'x']) {
    const head = await app.request(ORIGIN + NAR, { method: 'HEAD', headers: { Range: range } })
    assert.equal(head.status, 200)
    assert.equal(head.headers.get('content-length'), '100000')
    assert.equal(head.headers.get('accept-ranges'), 'bytes')
    assert.equal(head.headers.get('content-range'), null)
  }
})

/** As on the wire: 2.34 escapes more than 2.8 does, and neither escapes what these do. */
const TARGETS: [target: string, status: number][] = [
  [NARINFO.replace('.', '%2E'), 200],
  [NARINFO.replace('.', '%2e'), 200],
  [`/${HASH_PART.replace('7', '%37')}.narinfo`, 200],
  [NAR.replace('.nar', '%2Enar'), 200],
  [`/%6e%61%72/${narHash}.nar`, 200],
  [`/log/${HASH_PART}-x%2edrv`, 200],
  [`/realisations/${ID.replace('!', '%21').replace(':', '%3a')}.doi`, 200],
  [`${NARINFO}?`, 200],
  [`${NARINFO}?a=b&c=%2F`, 200],
  [`${NARINFO}?x=/../../etc`, 200],
  [`/nar%2F${narHash}.nar`, 404],
  [`/nar%2f${narHash}.nar`, 404],
  [`/log%2F${DRV}`, 404],
  [`/${NARINFO}`, 404],
  [`/nar//${narHash}.nar`, 404],
  [`//log/${DRV}`, 404],
  [`${NARINFO}%00`, 404],
  [`${NARINFO}%ff`, 404],
  [`/${HASH_PART}%c0%aenarinfo`, 404],
  [`/nar/%2e%2e${NARINFO}`, 404],
  [`/nar/..%2f${HASH_PART}.narinfo`, 404],
  [`${NARINFO}%`, 404],
  [`${NARINFO}%2`, 404],
  [`${NARINFO}%20`, 404],
  [`${NARINFO}%252E`, 404],
  [NARINFO.toUpperCase(), 404],
  [`${NARINFO};x`, 404],
  [`/NAR/${narHash}.nar`, 404],
  ['/nix-cache-info/', 404],
]
for (const [target, status] of TARGETS) {
  test(`${target.replaceAll(narHash, 'HASH').slice(0, 90)} -> ${status}`, async (t) => {
    const { app, asked } = testCache(nar, { upstreams })
    const { port } = await serve(t, app)
    const get = await exchange(t, port, getRequest(port, target))
    assert.equal(statusOf(get), status)
    if (status === 404) {
      assert.deepEqual(asked, [])
      assert.match(get, /\r\ncache-control: no-store\r\n/i)
    }
    const head = await exchange(t, port, getRequest(port, target).replace('GET', 'HEAD'))
    assert.equal(statusOf(head), status)
    assert.equal(bodyOf(head), '')
  })
}

/** Whatever is thrown behind a route, Nix sees a 404: of the rest, most would end its run [nix-protocol 0.1, A7]. */
const ERRORS: Error[] = [
  new ClientGoneError('x'),
  new BodyLengthError('x'),
  new GatewayError('bad-cid', 'x'),
  new GatewayError('not-cached', 'x'),
  new NoSourceError('x'),
  new BlockUnavailableError('x'),
  new NarHashMismatchError('x'),
  new PolicyError('x'),
  new NarInfoError('x'),
  new NarFormatError('magic', 0, 'x'),
  new ListingError('x'),
  new SourceMissError('s', 'x'),
  new SourceFaultError('s', 'x'),
  new SourceLieError('s', 'x'),
  new SpoolMissError(narHash),
  new SpoolCorruptError('/secret', 'x'),
  new StorePathChangedError('x'),
  new StoreUnavailableError('x'),
  new CompressedDataError('x'),
  new UpstreamUnfitError('x'),
  new DOMException('late', 'TimeoutError'),
  new DOMException('gone', 'AbortError'),
  new RangeError('x'),
  new TypeError('x is not a function'),
  Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }),
  Object.assign(new Error('attempt to write a readonly database'), { code: 'ERR_SQLITE_ERROR' }),
]
for (const error of ERRORS) {
  test(`${error.constructor.name} ${error.message.slice(0, 20)} is a 404 on every route that Nix uses`, async () => {
    const fail = (): Promise<never> => Promise.reject(error)
    const broken: [Parameters<typeof testCache>[1], paths: string[]][] = [
      [
        { resolver: { byHashPart: fail, byNarHash: fail } },
        [NARINFO, NAR, `/${HASH_PART}.ls`, `/debuginfo/${BUILD_ID}.debug`],
      ],
      [{ transfers: { hint() {}, open: fail } }, [NAR]],
      [{ read: () => failing(error) }, [NAR]],
      [{ lister: { list: fail } }, [`/${HASH_PART}.ls`]],
      [{ upstreams: [{ id: 'upstream:test', file: fail }] }, Object.keys(FILES).map((name) => `/${name}`)],
      [
        {
          formatAnswer() {
            throw error
          },
        },
        [NARINFO],
      ],
    ]
    for (const [parts, paths] of broken) {
      for (const path of paths) {
        const response = await testCache(nar, { upstreams, ...parts }).app.request(ORIGIN + path)
        assert.equal(response.status, 404, path)
        assert.equal(response.headers.get('cache-control'), 'no-store')
        assert.equal(await response.text(), 'not found\n')
      }
    }
  })
}

test('every kind of failure is a 404 on the cache listener', () => {
  const kinds: Record<FailureKind, true> = {
    'client-gone': true,
    'no-source': true,
    'wrong-bytes': true,
    'wrong-length': true,
    gateway: true,
    deadline: true,
    fault: true,
  }
  for (const kind of Object.keys(kinds) as FailureKind[]) assert.equal(cacheFailure(kind).status, 404)
})
