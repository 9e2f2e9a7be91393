import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test, type TestContext } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import type { Compression } from '../../src/nix/narinfo.ts'
import type { HashPart } from '../../src/nix/store-path.ts'
import {
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  type NarRef,
  type StreamSource,
} from '../../src/source.ts'
import { createUpstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { calm, collect } from './bytes.ts'
import { body, ranged, serveCache, status, type Answer, type CacheServer } from './cache-server.ts'
import { freshHosts } from './hosts.ts'

const storeDir = '/nix/store'
const HASH = '1h8dfzby9lsfkb09q7kga2pa2hzg3sv2' as HashPart
/** What is in it does not matter here: nobody below the transfer looks at it. */
const NAR = readFileSync(process.execPath).subarray(0, 700_000)
const ref: NarRef = {
  narHash: narHashFromDigest(createHash('sha256').update(NAR).digest()),
  narSize: NAR.length,
}

interface Served extends CacheServer {
  stream: StreamSource
}

async function streamOf(
  t: TestContext,
  compression: Compression,
  answer: Answer,
  more: Record<string, Answer> = {},
): Promise<Served> {
  const narInfo = [
    `StorePath: /nix/store/${HASH}-hello-1.0`,
    'URL: nar/hello.nar?v=1',
    `Compression: ${compression}`,
    `NarHash: sha256:${ref.narHash}`,
    `NarSize: ${ref.narSize}`,
    // Nobody signs it, nobody believes it.
    'FileSize: 17',
    '',
  ].join('\n')
  const server = await serveCache(t, {
    [`/${HASH}.narinfo`]: body(narInfo),
    '/nar/hello.nar?v=1': answer,
    ...more,
  })
  const deadlines = { firstByteMs: 300, stallMs: 300 }
  const upstream = createUpstream(
    { url: server.url, storeDir, deadlines },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => upstream.close())
  const stream = (await upstream.lookup(HASH, calm))?.stream
  assert.ok(stream)
  return { ...server, stream }
}

const OFFSETS = [0, 1, 65_536, 350_001, NAR.length - 1]

for (const [compression, bytes] of [
  ['gzip', gzipSync(NAR)],
  ['zstd', zstdCompressSync(NAR)],
] as const) {
  void test(`${compression}: from any offset, decoded from the start`, async (t) => {
    const { stream, requests } = await streamOf(t, compression, ranged(bytes))
    for (const from of OFFSETS) {
      assert.ok((await collect(stream.open(ref, from, calm))).equals(NAR.subarray(from)))
    }
    assert.ok(requests.every(({ range }) => range === undefined))
  })
}

void test('none: from any offset, asked for by Range', async (t) => {
  const { stream, requests } = await streamOf(t, 'none', ranged(NAR))
  for (const from of OFFSETS) {
    assert.ok((await collect(stream.open(ref, from, calm))).equals(NAR.subarray(from)))
  }
  assert.deepEqual(
    requests.slice(1).map(({ range }) => range),
    OFFSETS.map((from) => (from === 0 ? undefined : `bytes=${from}-`)),
  )
})

void test('none: a server that knows no Range is skipped through', async (t) => {
  const { stream } = await streamOf(t, 'none', body(NAR))
  for (const from of OFFSETS) {
    assert.ok((await collect(stream.open(ref, from, calm))).equals(NAR.subarray(from)))
  }
})

void test('nothing is asked for behind the last byte', async (t) => {
  const { stream, requests } = await streamOf(t, 'none', body(NAR))
  assert.equal((await collect(stream.open(ref, NAR.length, calm))).length, 0)
  assert.equal(requests.length, 1)
})

void test('a redirect keeps the Range', async (t) => {
  const { stream } = await streamOf(t, 'none', status(302, { location: '/elsewhere' }), {
    '/elsewhere': ranged(NAR),
  })
  assert.ok((await collect(stream.open(ref, 1000, calm))).equals(NAR.subarray(1000)))
})

void test('a NAR that is gone is a miss', async (t) => {
  const { stream } = await streamOf(t, 'none', status(404))
  await assert.rejects(collect(stream.open(ref, 0, calm)), SourceMissError)
})

const range = (contentRange: string, bytes: Uint8Array): Answer => {
  return (response) => response.writeHead(206, { 'content-range': contentRange }).end(bytes)
}
const withoutLength = (bytes: Uint8Array): Answer => {
  return (response) => {
    response.useChunkedEncodingByDefault = false
    response.shouldKeepAlive = false
    response.end(bytes)
  }
}
const cutAfter = (bytes: Uint8Array, length: number): Answer => {
  return (response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, length), () => response.destroy())
  }
}
const stallAfter = (bytes: Uint8Array, length: number): Answer => {
  return (response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, length))
  }
}
const gz = gzipSync(NAR)
const oneMore = Buffer.concat([NAR, Buffer.from('!')])

const BAD: readonly [string, Compression, Answer, typeof SourceFaultError | typeof SourceLieError, RegExp][] =
  [
    ['one byte more', 'none', body(oneMore), SourceLieError, /more than the \d+ bytes that were announced/],
    ['one byte more inside', 'gzip', body(gzipSync(oneMore)), SourceLieError, /more than the \d+ bytes/],
    ['bytes after it', 'gzip', body(Buffer.concat([gz, Buffer.from('junk')])), SourceLieError, /gzip: /],
    [
      'a bomb',
      'zstd',
      body(zstdCompressSync(Buffer.alloc(2 ** 30))),
      SourceLieError,
      /more than the \d+ bytes/,
    ],
    [
      'one byte less',
      'none',
      body(NAR.subarray(0, -1)),
      SourceFaultError,
      /expected 700000 bytes of NAR, got 699999/,
    ],
    ['one byte less inside', 'gzip', body(gzipSync(NAR.subarray(0, -1))), SourceFaultError, /got 699999/],
    ['an end that looks clean', 'none', withoutLength(NAR.subarray(0, 5000)), SourceFaultError, /got 5000/],
    [
      'an end in the middle of gzip',
      'gzip',
      withoutLength(gz.subarray(0, 5000)),
      SourceFaultError,
      /end of file/,
    ],
    ['a cut', 'none', cutAfter(NAR, 5000), SourceFaultError, /127\.0\.0\.1/],
    ['a cut of gzip', 'gzip', cutAfter(gz, 5000), SourceFaultError, /127\.0\.0\.1/],
    ['no answer', 'none', () => {}, SourceFaultError, /no answer within 300 ms/],
    ['headers alone', 'none', stallAfter(NAR, 0), SourceFaultError, /no answer within 300 ms/],
    ['a stall', 'none', stallAfter(NAR, 5000), SourceFaultError, /no further byte within 300 ms/],
    ['a stall of gzip', 'gzip', stallAfter(gz, 5000), SourceFaultError, /no further byte within 300 ms/],
    ['status 500', 'none', status(500), SourceFaultError, /expected status 200, got 500/],
    ['status 416', 'none', status(416), SourceFaultError, /expected status 200, got 416/],
    ['gzip labelled xz', 'xz', body(gz), SourceLieError, /magic bytes of an xz stream/],
    ['HTML labelled zstd', 'zstd', body('<!DOCTYPE html><html></html>'), SourceLieError, /zstd: /],
    ['br on top that is none', 'gzip', body(gz, { 'content-encoding': 'br' }), SourceLieError, /br: /],
    ['foo on top', 'none', body(gz, { 'content-encoding': 'foo' }), SourceLieError, /no Content-Encoding/],
    [
      'a bomb on top',
      'none',
      body(gzipSync(Buffer.alloc(4 * 2 ** 20)), { 'content-encoding': 'gzip' }),
      SourceLieError,
      /more than the \d+ bytes/,
    ],
  ]
for (const [name, compression, answer, type, expected] of BAD) {
  void test(`${compression}: ${name} ends in ${type.name}`, async (t) => {
    const { stream } = await streamOf(t, compression, answer)
    await assert.rejects(collect(stream.open(ref, 0, calm)), (error) => {
      assert.ok(error instanceof type, String(error))
      assert.match(error.message, expected)
      return true
    })
  })
}

void test('a Content-Encoding on top, though none was asked for, is taken off', async (t) => {
  const twice = body(gzipSync(gzipSync(NAR)), { 'content-encoding': 'gzip' })
  const { stream } = await streamOf(t, 'gzip', twice)
  for (const from of OFFSETS) {
    assert.ok((await collect(stream.open(ref, from, calm))).equals(NAR.subarray(from)))
  }
})

void test('a part of a file whose encoding is a part too cannot be read', async (t) => {
  const part = status(206, { 'content-encoding': 'gzip', 'content-range': 'bytes 5-9/10' }, 'xxxxx')
  const { stream } = await streamOf(t, 'none', part)
  await assert.rejects(collect(stream.open(ref, 5, calm)), /expected a part of the file, got one of its gzip/)
})

const BAD_RANGES: readonly [string, Answer, RegExp][] = [
  [
    'another start',
    range('bytes 999-699999/700000', NAR.subarray(999)),
    /expected a Content-Range from 1000/,
  ],
  ['no Content-Range', status(206, {}, 'x'), /expected a Content-Range from 1000, got undefined/],
  ['another unit', range('leaves 1000-1001/2', NAR.subarray(1000)), /expected a Content-Range from 1000/],
  ['more than there is', range('bytes 1000-699999/700000', NAR), /more than the 699000 bytes/],
]
for (const [name, answer, expected] of BAD_RANGES) {
  void test(`none: a Range answered with ${name} is a lie`, async (t) => {
    const { stream } = await streamOf(t, 'none', answer)
    await assert.rejects(collect(stream.open(ref, 1000, calm)), (error) => {
      assert.ok(error instanceof SourceLieError, String(error))
      assert.match(error.message, expected)
      return true
    })
  })
}

void test('a slow reader is no stall, and holds the socket back', async (t) => {
  const large = Buffer.alloc(50_000_000)
  let sent = 0
  const answer: Answer = (response) => {
    response.writeHead(200, { 'content-length': large.length })
    const more = (): void => {
      while (sent < large.length) {
        const chunk = large.subarray(sent, sent + 65_536)
        sent += chunk.length
        if (!response.write(chunk)) return void response.once('drain', more)
      }
      response.end()
    }
    more()
  }
  const { stream } = await streamOf(t, 'none', answer)
  let bytes = 0
  for await (const piece of stream.open({ ...ref, narSize: large.length }, 0, calm)) {
    if (bytes === 0) {
      // Longer than a stall may last.
      await new Promise((resolve) => {
        setTimeout(resolve, 500)
      })
      assert.ok(sent < large.length, `all ${sent} bytes were taken from the server`)
    }
    bytes += piece.length
  }
  assert.equal(bytes, large.length)
})

void test('a reader that leaves early, and one that aborts, close the connection', async (t) => {
  const closed: Promise<void>[] = []
  const answer: Answer = (response) => {
    closed.push(
      new Promise((resolve) => {
        response.once('close', resolve)
      }),
    )
    stallAfter(NAR, 300_000)(response, response.req)
  }
  const { stream } = await streamOf(t, 'none', answer)
  for await (const piece of stream.open(ref, 0, calm)) {
    assert.ok(piece.length > 0)
    break
  }
  await closed[0]

  const reason = new Error('enough')
  const abort = new AbortController()
  await assert.rejects(
    async () => {
      for await (const piece of stream.open(ref, 0, { signal: abort.signal })) {
        if (piece.length > 0) abort.abort(reason)
      }
    },
    (error) => error === reason,
  )
  await closed[1]
})
