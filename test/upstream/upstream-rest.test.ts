import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { BREAKER_REST_FLOOR_MS, UPSTREAM_BULK_CONNECTIONS_COUNT } from '../../src/limits.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import { SourceFaultError, SourceRestingError } from '../../src/source.ts'
import { createUpstream, type Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { calm, collect } from './bytes.ts'
import { body, serveCache, status, type Answer } from './cache-server.ts'
import { freshHosts } from './hosts.ts'

const HASH = '1h8dfzby9lsfkb09q7kga2pa2hzg3sv2' as HashPart
const asked = `/${HASH}.narinfo`
const narInfo = `StorePath: /nix/store/${HASH}-hello-1.0
URL: nar/hello.nar
Compression: none
NarHash: sha256:0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5
NarSize: 5
`

/** A cache whose answer to a narinfo can be changed, with a clock that can be set forward. */
async function resting(t: TestContext, first: Answer, nar: Answer = body('hello'), deadlineMs = 2_000) {
  const at = { answer: first, nar }
  const server = await serveCache(t, {
    [asked]: (response, request) => at.answer(response, request),
    '/nar/hello.nar': (response, request) => at.nar(response, request),
  })
  const hosts = freshHosts()
  const open = (path: string): Upstream => {
    const upstream = createUpstream(
      {
        url: new URL(path, server.url),
        storeDir: '/nix/store',
        deadlines: { narInfoMs: deadlineMs, firstByteMs: deadlineMs, stallMs: deadlineMs },
      },
      { log: recordingLog(), hosts: hosts.hosts },
    )
    t.after(() => upstream.close())
    return upstream
  }
  return { ...server, ...hosts, at, open, upstream: open('/') }
}

/** Asks until the host is left alone. @returns how often it was asked */
async function exhaust(upstream: Upstream): Promise<number> {
  for (let times = 0; times < 10; times++) {
    const error = await upstream.lookup(HASH, calm).catch((reason: unknown) => reason)
    if (error instanceof SourceRestingError) return times
    assert.ok(error instanceof SourceFaultError, String(error))
  }
  throw new Error('never left alone')
}

/** Of a host that was silent the first visitor is not told. */
async function found(upstream: Upstream): Promise<unknown> {
  for (;;) {
    try {
      return await upstream.lookup(HASH, calm)
    } catch (error) {
      if (!(error instanceof SourceRestingError)) throw error
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}

const silent: Answer = () => {}
const reset: Answer = (response) => response.destroy()
const DOWN: readonly [string, Answer, requests: number][] = [
  ['status 500', status(500), 3],
  ['status 502 with HTML', status(502, {}, '<html>'), 3],
  ['status 408', status(408), 3],
  ['429 without Retry-After', status(429), 3],
  ['429 and Retry-After', status(429, { 'retry-after': '7' }), 1],
  [
    '503 and Retry-After as a date',
    status(503, { date: 'Sun, 22 Nov 2026 03:00:00 GMT', 'retry-after': 'Sun, 22 Nov 2026 03:00:07 GMT' }),
    1,
  ],
  ['a reset', reset, 3],
  ['silence', silent, 3],
]
const REFUSED: readonly [string, Answer][] = [
  ['404', status(404)],
  ['403', status(403)],
  ['HTML', body('<html>log in</html>')],
  ['status 451', status(451)],
  ['a redirect to itself', status(302, { location: asked })],
  ['a redirect to another host', status(302, { location: 'http://127.0.0.1:9/' })],
]

describe('a host that fails', () => {
  for (const [name, answer, requests] of DOWN) {
    it(`is left alone after ${requests} times ${name}, and asked again later`, async (t) => {
      const {
        upstream,
        at,
        log,
        pass,
        requests: seen,
      } = await resting(t, answer, undefined, answer === silent ? 300 : 2_000)
      await exhaust(upstream)
      assert.equal(seen.length, requests)
      const { state, lastError } = upstream.status()
      assert.equal(state, 'resting')
      assert.ok(lastError)
      assert.deepEqual(
        log.lines.map(({ level }) => level),
        ['warn'],
      )

      at.answer = body(narInfo)
      pass(60_000)
      assert.ok(await found(upstream))
      assert.deepEqual(upstream.status(), { state: 'ok' })
      assert.deepEqual(
        log.lines.map(({ level }) => level),
        ['warn', 'info'],
      )
      assert.match(log.lines[1]?.message ?? '', /^http:\/\/127\.0\.0\.1:\d+ answers again$/)
    })
  }
  for (const [name, answer] of REFUSED) {
    it(`does not fail with ${name}`, async (t) => {
      const { upstream, log } = await resting(t, answer)
      for (let i = 0; i < 5; i++) await upstream.lookup(HASH, calm).catch(() => {})
      assert.equal(upstream.status().state, 'ok')
      assert.deepEqual(log.lines, [])
    })
  }
  it('is asked once more at once, so that one bad backend is no miss', async (t) => {
    const { upstream, at, requests } = await resting(t, (response) => {
      at.answer = body(narInfo)
      response.writeHead(503).end()
    })
    assert.ok(await upstream.lookup(HASH, calm))
    assert.equal(requests.length, 2)
  })
  it('rests as long as its Retry-After says, and no longer than a minute', async (t) => {
    const { upstream, pass } = await resting(t, status(429, { 'retry-after': '86400' }))
    await exhaust(upstream)
    assert.ok(upstream.status().restsMs! > 59_000)
    pass(60_000)
    assert.equal(upstream.status().restsMs, 0)
  })
  it('rests for all upstreams on it', async (t) => {
    const { upstream, open, requests } = await resting(t, status(500))
    const other = open('/other/')
    await exhaust(upstream)
    const before = requests.length
    await assert.rejects(other.lookup(HASH, calm), SourceRestingError)
    await assert.rejects(other.file('log/x', { ...calm, maxBytes: 10 }), SourceRestingError)
    await assert.rejects(other.cacheInfo(calm), SourceRestingError)
    assert.equal(requests.length, before)
    assert.equal(other.status().state, 'resting')
  })
  it('is probed by one while all others wait for its verdict', async (t) => {
    const { upstream, at, pass, requests } = await resting(t, status(500))
    await exhaust(upstream)
    pass(60_000)
    const before = requests.length
    at.answer = (response, request) => {
      at.answer = body(narInfo)
      assert.equal(requests.length, before + 1)
      setTimeout(() => body(narInfo)(response, request), 20)
    }
    const found = await Promise.all(Array.from({ length: 20 }, () => upstream.lookup(HASH, calm)))
    assert.equal(found.filter((one) => one === undefined).length, 0)
  })
  it('is probed beside the look-ups when it was silent: nobody waits for the verdict', async (t) => {
    const { upstream, at, pass, requests } = await resting(t, silent, body('hello'), 300)
    await exhaust(upstream)
    pass(60_000)
    const before = requests.length
    const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>()
    const { promise: over, resolve: goOn } = Promise.withResolvers<void>()
    at.answer = (response, request) => {
      onAsked()
      void over.then(() => body(narInfo)(response, request))
    }
    for (let i = 0; i < 20; i++) await assert.rejects(upstream.lookup(HASH, calm), SourceRestingError)
    await asked
    await assert.rejects(upstream.lookup(HASH, calm), SourceRestingError)
    assert.equal(requests.length, before + 1)
    goOn()
    assert.ok(await found(upstream))
    assert.equal(upstream.status().state, 'ok')
  })
  it('gives no NAR at once, and a promised one after the shortest rest', async (t) => {
    const { upstream, at, pass } = await resting(t, body(narInfo))
    const candidate = await upstream.lookup(HASH, calm)
    const read = () => collect(candidate!.stream!.open(candidate!.info, 0, calm))
    at.answer = status(500)
    await exhaust(upstream)
    await assert.rejects(read(), SourceRestingError)
    pass(60_000)
    await assert.rejects(upstream.lookup(HASH, calm), SourceFaultError)
    pass(BREAKER_REST_FLOOR_MS)
    await assert.rejects(upstream.lookup(HASH, calm), SourceRestingError)
    assert.equal(String(await read()), 'hello')
    assert.equal(upstream.status().state, 'ok')
  })
  it('is not blamed for a caller who leaves', async (t) => {
    const { upstream } = await resting(t, silent)
    for (let i = 0; i < 5; i++) {
      const gone = AbortSignal.timeout(5)
      await assert.rejects(upstream.lookup(HASH, { signal: gone }), (error) => error === gone.reason)
    }
    assert.deepEqual(upstream.status(), { state: 'ok' })
  })
  it('fails with NARs too', async (t) => {
    const { upstream } = await resting(t, body(narInfo), status(500))
    const candidate = await upstream.lookup(HASH, calm)
    const read = () => collect(candidate!.stream!.open(candidate!.info, 0, calm))
    await assert.rejects(read(), SourceFaultError)
    await assert.rejects(read(), SourceFaultError)
    assert.equal(upstream.status().state, 'resting')
  })
})

describe('a host with much to do', () => {
  it('answers narinfos while every connection for NARs is taken', async (t) => {
    const { upstream } = await resting(t, body(narInfo), (response) => {
      response.writeHead(200, { 'content-length': '5' }).write('h')
    })
    const candidate = await upstream.lookup(HASH, calm)
    const gone = new AbortController()
    const streams = Array.from({ length: UPSTREAM_BULK_CONNECTIONS_COUNT + 1 }, async () => {
      const opened = candidate!.stream!.open(candidate!.info, 0, { signal: gone.signal })
      const bytes = opened[Symbol.asyncIterator]()
      await bytes.next()
      return bytes
    })
    const [first] = await Promise.all(streams.slice(0, -1))
    const found = await Promise.all(Array.from({ length: 100 }, () => upstream.lookup(HASH, calm)))
    assert.ok(found.every((one) => one !== undefined))
    await first?.return?.()
    await streams.at(-1)
    gone.abort(new Error('enough'))
  })
})
