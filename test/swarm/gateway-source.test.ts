import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { mock, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { SourceFaultError, SourceLieError, SourceMissError } from '../../src/source.ts'
import type { GatewaySource } from '../../src/swarm/gateway-source.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'

const block = randomBytes(300_000)
const cid = rawCid(sha256(block))
const RAW = { 'content-type': 'application/vnd.ipld.raw' }
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
    title: 'what is asked for, and nothing encoded',
    answer: (request, response) => {
      assert.equal(request.url, `/ipfs/${cid.toString()}?format=raw`)
      assert.equal(request.headers.accept, 'application/vnd.ipld.raw')
      assert.equal(request.headers['accept-encoding'], 'identity')
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

const bad: { title: string; error: new (...args: never[]) => Error; answer: RequestListener }[] = [
  {
    title: 'a page with status 200',
    error: SourceLieError,
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

async function gateway(t: TestContext, answer: RequestListener, path = ''): Promise<GatewaySource> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const source = createGatewaySource({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
  })
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
