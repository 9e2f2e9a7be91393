import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { mock, test } from 'node:test'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { SourceFaultError, SourceLieError, SourceMissError, SourceRestingError } from '../../src/source.ts'
import type { GatewaySource } from '../../src/swarm/gateway-source.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'

const block = randomBytes(300_000)
const cid = rawCid(sha256(block))
const RAW = { 'content-type': 'application/vnd.ipld.raw' }
const ZSTD = { ...RAW, 'content-encoding': 'zstd' }
/** Text, so that it gets smaller. */
const words = Buffer.alloc(block.length, 'the quick brown fox jumps over the lazy dog ')
const wordsCid = rawCid(sha256(words))
const frame = zstdCompressSync(words)
const signal = new AbortController().signal
const wanted = { cid, maxBytes: block.length }

const good: { title: string; path?: string; answer: RequestListener }[] = [
  {
    title: 'a block with its length',
    answer: (_, response) => response.writeHead(200, { ...RAW, 'content-length': block.length }).end(block),
  },
  { title: 'a block without a length', answer: (_, response) => response.writeHead(200, RAW).end(block) },
  {
    title: 'a block of no type in small pieces',
    answer: (_, response) => {
      response.writeHead(200)
      for (let at = 0; at < block.length; at += 7001) response.write(block.subarray(at, at + 7001))
      response.end()
    },
  },
  {
    title: 'a gateway below a path',
    path: '/some/where/',
    answer: (request, response) => {
      assert.equal(request.url, `/some/where/ipfs/${cid.toString()}?format=raw`)
      response.writeHead(200, RAW).end(block)
    },
  },
  {
    title: 'what is asked for',
    answer: (request, response) => {
      assert.equal(request.url, `/ipfs/${cid.toString()}?format=raw`)
      assert.equal(request.headers.accept, 'application/vnd.ipld.raw')
      assert.equal(request.headers['accept-encoding'], 'zstd')
      response.writeHead(200, RAW).end(block)
    },
  },
]

for (const { title, path = '', answer } of good) {
  test(`taken: ${title}`, async (t) => {
    const source = await gateway(t, answer, path)
    let told = 0
    const onBytes = (count: number): void => void (told += count)
    assert.deepEqual(Buffer.from(await source.fetch({ ...wanted, onBytes }, { signal })), block)
    assert.equal(told, block.length)
  })
}

test('a coded block is decoded; what is told of it meanwhile is what was on the wire, and nothing lies in its place', async (t) => {
  const source = await gateway(t, (_, response) => {
    response.writeHead(200, { ...ZSTD, 'content-length': frame.length })
    response.write(frame.subarray(0, 20), () => response.end(frame.subarray(20)))
  })
  const into = new Uint8Array(words.length)
  let told = 0
  const bytes = await source.fetch(
    {
      cid: wordsCid,
      maxBytes: words.length,
      into,
      onBytes: (count) => void (told += count),
      onPlaced: () => assert.fail('coded bytes are not the block'),
    },
    { signal },
  )
  assert.ok(words.equals(bytes))
  assert.equal(told, frame.length)
})

test('of a raw block both are told, and it lies in its place', async (t) => {
  const source = await gateway(t, (_, response) => response.writeHead(200, RAW).end(block))
  const into = new Uint8Array(block.length)
  let told = 0
  let placed = 0
  const onPlaced = (count: number): void => {
    assert.ok(block.subarray(placed, placed + count).equals(into.subarray(placed, placed + count)))
    placed += count
  }
  const onBytes = (count: number): void => void (told += count)
  const bytes = await source.fetch({ ...wanted, into, onBytes, onPlaced }, { signal })
  assert.equal(bytes.buffer, into.buffer)
  assert.deepEqual([told, placed], [block.length, block.length])
})

test('any block comes through the coding as it was', async (t) => {
  let sent = Buffer.alloc(0)
  const source = await gateway(t, (_, response) => {
    const coded = zstdCompressSync(sent)
    response.writeHead(200, { ...ZSTD, 'content-length': coded.length }).end(coded)
  })
  const blocks = fc.uint8Array({ maxLength: 5_000 }).map((bytes) => Buffer.concat([bytes, words, bytes]))
  await fc.assert(
    fc.asyncProperty(blocks, async (bytes) => {
      sent = bytes
      assert.ok(bytes.equals(await source.fetch({ cid: wordsCid, maxBytes: bytes.length }, { signal })))
    }),
    { numRuns: 30 },
  )
})

/** All of them with status 200, the type of a block and Content-Encoding zstd. */
const hostile: {
  title: string
  body: Uint8Array
  error: new (...args: never[]) => Error
  says: RegExp
  withoutLength?: true
}[] = [
  {
    title: 'a bomb that tells its size',
    body: zstdCompressSync(Buffer.alloc(200_000_000)),
    error: SourceLieError,
    says: /expected at most 300000 bytes out of it, got more/,
  },
  {
    title: 'a bomb that does not',
    body: zstdCompressSync(Buffer.alloc(200_000_000), { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } }),
    error: SourceLieError,
    says: /expected at most 300000 bytes out of it, got more/,
  },
  {
    title: 'one byte more than the block',
    body: zstdCompressSync(Buffer.concat([words, Buffer.from('x')])),
    error: SourceLieError,
    says: /expected at most 300000 bytes out of it, got more/,
  },
  {
    title: 'a frame that ends in the middle',
    body: frame.subarray(0, -3),
    error: SourceLieError,
    says: /the frame ends in the middle/,
  },
  {
    title: 'a frame that ends in the middle of a body without a length',
    body: frame.subarray(0, -3),
    error: SourceFaultError,
    says: /the frame ends in the middle/,
    withoutLength: true,
  },
  { title: 'nothing', body: Buffer.alloc(0), error: SourceLieError, says: /the frame ends in the middle/ },
  {
    title: 'bytes after the frame',
    body: Buffer.concat([frame, Buffer.from('x')]),
    error: SourceLieError,
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'two frames',
    body: Buffer.concat([zstdCompressSync(words.subarray(0, 1000)), zstdCompressSync(words.subarray(1000))]),
    error: SourceLieError,
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'a skippable frame before it',
    body: Buffer.concat([Buffer.from('502a4d1804000000aabbccdd', 'hex'), frame]),
    error: SourceLieError,
    says: /expected one frame, got bytes after it/,
  },
  {
    title: 'the id of a dictionary',
    // Descriptor 0x21: one segment, a size of one byte, a dictionary's id of one byte (RFC 8878 3.1.1.1).
    body: Buffer.from('28b52ffd21070100000000', 'hex'),
    error: SourceLieError,
    says: /Dictionary mismatch/,
  },
  {
    title: 'a dictionary that it does not name',
    body: zstdCompressSync(block, { dictionary: block }),
    error: SourceLieError,
    says: /zstd: .*corrupt/i,
  },
  {
    title: 'a window of 2 GiB',
    // No size, Window_Descriptor 0xa8.
    body: Buffer.from('28b52ffd00a8010000', 'hex'),
    error: SourceLieError,
    says: /zstd: .*memory/i,
  },
  {
    title: 'no zstd',
    body: randomBytes(1000),
    error: SourceLieError,
    says: /zstd: Unknown frame descriptor/,
  },
  {
    title: 'more bytes than the block has',
    body: zstdCompressSync(randomBytes(block.length)),
    error: SourceLieError,
    says: /expected at most 300000 bytes, got Content-Length/,
  },
]

for (const { title, body, error, says, withoutLength } of hostile) {
  test(`refused, coded: ${title}`, async (t) => {
    const source = await gateway(t, (_, response) => {
      response.writeHead(200, withoutLength ? ZSTD : { ...ZSTD, 'content-length': body.length })
      response.end(body)
    })
    await assert.rejects(source.fetch(wanted, { signal }), (thrown) => {
      assert.ok(thrown instanceof error, String(thrown))
      assert.match(thrown.message, says)
      assert.ok(thrown.message.startsWith(cid.toString()))
      return true
    })
  })
}

test('a coded body that is cut is a fault of the connection', async (t) => {
  const source = await gateway(t, (_, response) => {
    response.writeHead(200, { ...ZSTD, 'content-length': frame.length })
    response.write(frame.subarray(0, 30), () => response.destroy())
  })
  await assert.rejects(source.fetch(wanted, { signal }), SourceFaultError)
})

test('zstd is asked for unless the link is quick, and a peer is told what a slow one carries', async (t) => {
  const leaf = Buffer.alloc(1_048_576)
  const asked: string[] = []
  const answer: RequestListener = ({ headers }, response) => {
    asked.push([headers['accept-encoding'], headers['downlink']].join(' '))
    response.writeHead(200, RAW).end(leaf)
  }
  let now = 0
  /** Milliseconds that a body takes: the clock is looked at where it begins and where it ends. */
  let bodyMs = 100
  const source = await gateway(t, answer, '', { clock: () => (now += bodyMs) })
  const fetch = async (times: number): Promise<void> => {
    for (let at = 0; at < times; at++) await source.fetch({ cid, maxBytes: leaf.length }, { signal })
  }
  await fetch(2)
  assert.deepEqual(asked.splice(0), ['zstd ', 'zstd 83.886'])
  // 350 MB/s.
  bodyMs = 3
  await fetch(8)
  assert.deepEqual(asked.splice(0), [...Array<string>(7).fill('zstd 83.886'), 'identity '])
  bodyMs = 100
  await fetch(2)
  assert.equal(asked.at(-1)?.startsWith('zstd '), true)
})

const bad: { title: string; error: new (...args: never[]) => Error; answer: RequestListener }[] = [
  {
    title: 'a page with status 200',
    error: SourceFaultError,
    answer: (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>log in'),
  },
  {
    title: 'a Content-Length above the size of the block',
    error: SourceLieError,
    answer: (_, response) =>
      response.writeHead(200, { ...RAW, 'content-length': block.length + 1 }).end(block),
  },
  {
    title: 'a body without end',
    error: SourceLieError,
    answer: (_, response) => {
      response.writeHead(200, RAW)
      const pour = (): void => {
        while (!response.destroyed && response.write(block));
      }
      response.on('drain', pour)
      pour()
    },
  },
  {
    title: 'a body shorter than its Content-Length',
    error: SourceFaultError,
    answer: (_, response) => {
      response.writeHead(200, { ...RAW, 'content-length': block.length })
      response.write(block.subarray(0, 1000), () => response.destroy())
    },
  },
  {
    title: 'a redirect',
    error: SourceFaultError,
    answer: (_, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
  },
  {
    title: 'a coded body',
    error: SourceFaultError,
    answer: (_, response) =>
      response.writeHead(200, { ...RAW, 'content-encoding': 'gzip' }).end(gzipSync(block)),
  },
  { title: 'status 404', error: SourceMissError, answer: (_, response) => response.writeHead(404).end('no') },
  { title: 'status 410', error: SourceMissError, answer: (_, response) => response.writeHead(410).end() },
  {
    title: 'status 206',
    error: SourceFaultError,
    answer: (_, response) => response.writeHead(206, RAW).end(block),
  },
  { title: 'status 429', error: SourceFaultError, answer: (_, response) => response.writeHead(429).end() },
  { title: 'status 500', error: SourceFaultError, answer: (_, response) => response.writeHead(500).end() },
  { title: 'a hang-up', error: SourceFaultError, answer: (request) => request.socket.destroy() },
]

for (const { title, error, answer } of bad) {
  test(`refused: ${title}: ${error.name}`, async (t) => {
    const source = await gateway(t, answer)
    await assert.rejects(source.fetch(wanted, { signal }), error)
  })
}

for (const status of [429, 503]) {
  test(`status ${status} with Retry-After is no fault, and nothing is asked until then`, async (t) => {
    let now = 0
    let requests = 0
    const answer: RequestListener = (_, response) => {
      if (requests++ > 0) response.writeHead(200, RAW).end(block)
      else response.writeHead(status, { 'retry-after': '7' }).end('later')
    }
    const source = await gateway(t, answer, '', { clock: () => now })
    await assert.rejects(source.fetch(wanted, { signal }), SourceRestingError)
    now = 6_999
    await assert.rejects(source.fetch(wanted, { signal }), SourceRestingError)
    assert.equal(requests, 1)
    now = 7_000
    assert.deepEqual(await source.fetch(wanted, { signal }), block)
  })
}

test('a gateway is a source again after a refusal', async (t) => {
  let requests = 0
  const source = await gateway(t, (_, response) => {
    if (requests++ === 0) response.writeHead(200, { ...RAW, 'content-length': block.length + 1 }).end(block)
    else response.writeHead(200, RAW).end(block)
  })
  await assert.rejects(source.fetch(wanted, { signal }), SourceLieError)
  assert.deepEqual(Buffer.from(await source.fetch(wanted, { signal })), block)
})

test('a gateway that is not there is a fault', async (t) => {
  const source = createGatewaySource({ url: await closedPort() })
  t.after(() => source.close())
  await assert.rejects(source.fetch(wanted, { signal }), SourceFaultError)
})

for (const when of ['before the first byte', 'in the middle'] as const) {
  test(`an abort ends the call at once and hangs up on a gateway that is silent ${when}`, async (t) => {
    const { promise: silent, resolve: onSilent } = Promise.withResolvers<void>()
    const { promise: hungUp, resolve: onHungUp } = Promise.withResolvers<void>()
    const source = await gateway(t, (request, response) => {
      request.socket.on('close', () => onHungUp())
      if (when === 'before the first byte') onSilent()
      else response.writeHead(200, RAW).write(block.subarray(0, 10), () => onSilent())
    })
    const controller = new AbortController()
    const call = source.fetch(wanted, { signal: controller.signal })
    await silent
    const reason = new Error('the reader left')
    controller.abort(reason)
    await assert.rejects(call, reason)
    await hungUp
  })
}

test('a block slower than the least rate is a fault, however it trickles', async (t) => {
  const { promise: trickling, resolve: onTrickling } = Promise.withResolvers<void>()
  const source = await gateway(t, (_, response) => {
    response.writeHead(200, RAW).write(block.subarray(0, 10), () => onTrickling())
  })
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  const call = source.fetch(wanted, { signal })
  await trickling
  mock.timers.tick(60_000)
  await assert.rejects(call, SourceFaultError)
})

for (const url of ['ftp://a.example', 'no url', 'http://user:word@a.example', 'http://a.example/?x=1', '']) {
  test(`no gateway: ${JSON.stringify(url)}`, () => {
    assert.throws(() => createGatewaySource({ url }), RangeError)
  })
}

async function gateway(
  t: TestContext,
  answer: RequestListener,
  path = '',
  deps: { clock?: () => number } = {},
): Promise<GatewaySource> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const source = createGatewaySource({ url: `http://127.0.0.1:${port}${path}` }, deps)
  t.after(async () => {
    await source.close()
    server.closeAllConnections()
    server.close()
  })
  return source
}

async function closedPort(): Promise<string> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}
