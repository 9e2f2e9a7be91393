import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import { Agent } from 'undici'
import { createLeafBuffers } from '../../src/dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { RECEIVE_BUFFER_BYTES } from '../../src/limits.ts'
import { receive, type Received, type ReceiveOptions } from '../../src/upstream/receive.ts'
import { createReceivingConnector } from '../../src/upstream/receiving-socket.ts'
import { noise } from '../spool/kit.ts'
import { collect } from './bytes.ts'
import { body, serveCache, type Answer } from './cache-server.ts'

const BYTES = noise(9 * LEAF_BYTES + 12_345)

interface Client {
  get(path: string, options?: Partial<ReceiveOptions>): Promise<Received>
}

function clientOf(t: TestContext, url: URL, connections = 4): Client {
  const agent = new Agent({ connections, allowH2: false, connect: createReceivingConnector({}) })
  t.after(() => agent.destroy())
  const signal = AbortSignal.timeout(60_000)
  return {
    get: (path, options = {}) =>
      receive(agent, new URL(path, url), { headers: {}, pieceBytes: LEAF_BYTES, signal, ...options }),
  }
}

async function serving(t: TestContext, answers: Record<string, Answer>): Promise<Client> {
  const { url } = await serveCache(t, answers)
  return clientOf(t, url)
}

/** A server that says what it is told to, on each connection. */
async function talking(t: TestContext, talk: (socket: Socket) => void): Promise<URL> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => talk(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
}

/** Chunked, in pieces whose ends are nowhere near those of any buffer. */
const inChunks: Answer = (response) => {
  for (let at = 0, size = 1; at < BYTES.length; at += size, size = (size * 7 + 11) % 200_003) {
    response.write(BYTES.subarray(at, at + size))
    if (size === 0) size = 1
  }
  response.end()
}

/** Stops after each piece, so that what is not taken yet waits in every buffer there is. */
async function slowly(received: Received): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const piece of received.body) {
    await wait(5)
    parts.push(piece)
  }
  return Buffer.concat(parts)
}

for (const [how, answer] of [
  ['with its length', body(BYTES)],
  ['chunked', inChunks],
] as const) {
  void test(`all bytes of a body ${how} come, to a quick reader and to a slow one`, async (t) => {
    const client = await serving(t, { '/nar': answer })
    for (const read of [(received: Received) => collect(received.body), slowly]) {
      for (const pieceBytes of [LEAF_BYTES, 70_001]) {
        const received = await client.get('/nar', { pieceBytes })
        assert.equal(received.statusCode, 200)
        assert.equal((await read(received)).equals(BYTES), true)
      }
    }
  })
  void test(`bodies ${how} at the same time do not mix, nor do the buffers they are lent`, async (t) => {
    const client = await serving(t, { '/nar': answer })
    const buffers = createLeafBuffers(3)
    const read = async (): Promise<boolean> => {
      let at = 0
      for await (const piece of (await client.get('/nar', { buffers })).body) {
        await wait(1)
        const isRight = BYTES.subarray(at, at + piece.length).equals(piece)
        if (!isRight) return false
        at += piece.length
        buffers.give(piece)
      }
      return at === BYTES.length
    }
    assert.deepEqual(
      await Promise.all(Array.from({ length: 6 }, read)),
      Array.from({ length: 6 }, () => true),
    )
  })
}

void test('a body nobody takes is not taken from the line either', async (t) => {
  let sent = 0
  const url = await talking(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n`)
    const more = (): void => {
      do sent += LEAF_BYTES
      while (socket.write(Buffer.alloc(LEAF_BYTES)))
    }
    socket.on('drain', more)
    more()
  })
  const received = await clientOf(t, url).get('/nar')
  await wait(1_000)
  // Ours are three pieces; all else are the kernel's buffers.
  assert.ok(sent < 30 * LEAF_BYTES, `${sent} bytes were taken`)
  received.close()
})

void test('a connection serves the next request when the body was read', async (t) => {
  const connections = new Set<unknown>()
  const { url } = await serveCache(t, {
    '/nar': (response, request) => {
      connections.add(request.socket)
      body(BYTES)(response, request)
    },
  })
  const client = clientOf(t, url, 1)
  for (let i = 0; i < 3; i++) await collect((await client.get('/nar')).body)
  assert.equal(connections.size, 1)
})

void test('who leaves a body early ends the request, and the next one has a connection', async (t) => {
  const { url } = await serveCache(t, { '/nar': body(BYTES) })
  const client = clientOf(t, url, 1)
  for await (const piece of (await client.get('/nar')).body) {
    assert.ok(piece.length > 0)
    break
  }
  ;(await client.get('/nar')).close()
  assert.equal((await collect((await client.get('/nar')).body)).equals(BYTES), true)
})

void test('an interim answer is not the answer', async (t) => {
  const url = await talking(t, (socket) =>
    socket.end(
      'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno',
    ),
  )
  const received = await clientOf(t, url).get('/nar')
  assert.equal(received.statusCode, 404)
  assert.equal(String(await collect(received.body)), 'no')
})

void test('of a body that is cut all that came is given, then why', async (t) => {
  const came = 3 * RECEIVE_BUFFER_BYTES + 77
  const url = await talking(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${BYTES.length}\r\n\r\n`)
    socket.end(BYTES.subarray(0, came))
  })
  const parts: Uint8Array[] = []
  await assert.rejects(async () => {
    for await (const piece of (await clientOf(t, url).get('/nar')).body) parts.push(piece)
  }, /other side closed/)
  assert.deepEqual(Buffer.concat(parts), BYTES.subarray(0, came))
})

void test('an abort is heard at once: while it connects, before the head, in the body', async (t) => {
  const reason = new Error('changed my mind')
  const silent = await talking(t, () => {})
  const half = await talking(t, (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'))

  const client = clientOf(t, silent, 1)
  const first = new AbortController()
  const second = new AbortController()
  const busy = client.get('/nar', { signal: first.signal })
  const queued = client.get('/nar', { signal: second.signal })
  second.abort(reason)
  await assert.rejects(queued, reason)
  await wait(50)
  first.abort(reason)
  await assert.rejects(busy, reason)
  await assert.rejects(client.get('/nar', { signal: AbortSignal.abort(reason) }), reason)

  const third = new AbortController()
  const { body: pieces } = await clientOf(t, half).get('/nar', { signal: third.signal })
  const reading = Array.fromAsync(pieces)
  await wait(50)
  third.abort(reason)
  await assert.rejects(reading, reason)
})

void test('nobody there', async (t) => {
  const { url } = await serveCache(t, {})
  url.port = '1'
  await assert.rejects(clientOf(t, url).get('/nar'), /ECONNREFUSED/)
})
