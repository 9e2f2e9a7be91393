import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import type { Server } from 'node:http'
import { createServer as createNetServer } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { listen, ListenError } from '../../src/http/server.ts'
import {
  HTTP_HEADERS_TIMEOUT_MS,
  HTTP_KEEP_ALIVE_TIMEOUT_MS,
  HTTP_MAX_HEADERS_COUNT,
  HTTP_MAX_REQUESTS_PER_SOCKET,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_STALL_TIMEOUT_MS,
} from '../../src/limits.ts'
import { NarHashMismatchError } from '../../src/substitute/errors.ts'
import { tempDir } from '../kit/temp.ts'
import {
  bodyOf,
  chunksOf,
  exchange,
  getRequest,
  HASH_PART,
  pattern,
  rawClient,
  serve,
  statusOf,
  testCache,
  testNar,
} from './kit.ts'

const SIZE = 3_000_000
const nar = testNar(pattern(SIZE))
const NAR = `/nar/${nar.info.narHash}.nar`
const NARINFO = `/${HASH_PART}.narinfo`
const INFO = '/nix-cache-info'

test('a NAR crosses a socket as it is', async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  const response = await exchange(t, port, getRequest(port, NAR))
  assert.equal(statusOf(response), 200)
  assert.match(response, /\r\nContent-Length: 3000000\r\n/)
  assert.doesNotMatch(response, /\r\n(?:Content-Encoding|Transfer-Encoding):/i)
  assert.ok(Buffer.from(bodyOf(response), 'latin1').equals(nar.bytes))
})

test('a connection is used again after a NAR, a part of one, a HEAD and a miss', async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  const keep = (line: string) => `${line} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`
  const client = await rawClient(t, port)
  client.socket.write(
    keep(`GET ${NAR}`) +
      keep(`HEAD ${NAR}`) +
      keep('GET /none') +
      getRequest(port, NAR, ['Range: bytes=7-9']),
  )
  const all = await client.all
  const statuses = [...all.matchAll(/HTTP\/1\.1 ([0-9]{3})/g)].map(([, status]) => status)
  assert.deepEqual(statuses, ['200', '200', '404', '206'])
  assert.ok(all.endsWith('\x07\x08\x09'))
})

for (const [title, read] of [
  [
    'fails',
    async function* () {
      yield* chunksOf(nar.bytes, { start: 0, end: 2_000_000 })
      throw new NarHashMismatchError('other bytes')
    },
  ],
  [
    'fails after its last byte',
    async function* () {
      yield* chunksOf(nar.bytes, { start: 0, end: SIZE })
      throw new NarHashMismatchError('other bytes')
    },
  ],
  ['ends early', () => chunksOf(nar.bytes, { start: 0, end: SIZE - 1 })],
  ['does not end', () => chunksOf(pattern(SIZE + 1), { start: 0, end: SIZE + 1 })],
] as const) {
  /** Security 0.6: hono's stream() ended such a body as if it were whole. */
  test(`a source that ${title} cuts the socket before Content-Length is reached`, async (t) => {
    const { app, log } = testCache(nar, { read })
    const { port } = await serve(t, app)
    const response = await exchange(t, port, getRequest(port, NAR))
    assert.equal(statusOf(response), 200)
    const body = bodyOf(response)
    assert.ok(body.length < SIZE, `${body.length} bytes came`)
    assert.ok(Buffer.from(body, 'latin1').equals(nar.bytes.subarray(0, body.length)))
    assert.equal(log.lines.length, 1)
    assert.equal(log.lines[0]?.level, 'warn')
  })
}

test('a client that leaves aborts the reading, and nothing is wrong', async (t) => {
  const aborted = Promise.withResolvers<unknown>()
  const freed = Promise.withResolvers<void>()
  const { app, log } = testCache(nar, {
    async *read(_, { signal }) {
      signal.addEventListener('abort', () => aborted.resolve(signal.reason))
      try {
        yield nar.bytes.subarray(0, 100)
        await aborted.promise
        throw signal.reason
      } finally {
        freed.resolve()
      }
    },
  })
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  client.socket.write(getRequest(port, NAR))
  await client.until('\r\n\r\n')
  client.socket.destroy()
  assert.equal(((await aborted.promise) as Error).name, 'ClientGoneError')
  await freed.promise
  assert.deepEqual(
    log.lines.filter(({ level }) => level !== 'debug'),
    [],
  )
})

test('clients that leave at any byte free their source, and the next one is served (C11)', async (t) => {
  const sources = { open: 0 }
  const { app, log } = testCache(nar, {
    async *read(range) {
      sources.open++
      try {
        yield* chunksOf(nar.bytes, range)
      } finally {
        sources.open--
      }
    },
  })
  const { port } = await serve(t, app)
  for (let i = 0; i < 200; i++) {
    const client = await rawClient(t, port)
    const leaveAt = Math.floor((i * SIZE) / 200)
    let got = 0
    client.socket.on('data', (part: Buffer) => {
      got += part.length
      if (got > leaveAt) client.socket.destroy()
    })
    client.socket.write(`GET ${NAR} HTTP/1.1\r\n${host(port)}\r\n`)
    await client.all
  }
  const response = await exchange(t, port, getRequest(port, NAR))
  assert.ok(Buffer.from(bodyOf(response), 'latin1').equals(nar.bytes))
  while (sources.open > 0) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(
    log.lines.filter(({ level }) => level !== 'debug'),
    [],
  )
})

test('a client that does not read stops the source, not the process (C10)', async (t) => {
  let given = 0
  const big = testNar(pattern(1_000_000))
  const info = { ...big.info, narSize: 1_000_000_000 }
  const stuck = Promise.withResolvers<void>()
  const { app } = testCache(
    { ...big, info },
    {
      async *read(_, { signal }) {
        for (;;) {
          signal.throwIfAborted()
          given++
          // Resolved when a turn of the loop passed in which nobody asked for the next chunk.
          const turn = given
          setTimeout(() => given === turn && stuck.resolve(), 100)
          yield big.bytes
        }
      },
    },
  )
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  client.socket.pause()
  client.socket.write(getRequest(port, `/nar/${info.narHash}.nar`))
  await stuck.promise
  assert.ok(given < 100, `${given} MB were read for a client that takes none`)
})

/** What the wire may hold, and how it is refused: security 3 C2 to C8. */
const host = (port: number) => `Host: 127.0.0.1:${port}\r\n`
const REFUSED: [title: string, request: (port: number) => string, status: (number | undefined)[]][] = [
  ['HTTP/0.9', () => `GET ${INFO}\r\n\r\n`, [400, 403]],
  ['HTTP/1.0 without Host', () => `GET ${INFO} HTTP/1.0\r\n\r\n`, [403]],
  ['HTTP/1.1 without Host', () => `GET ${INFO} HTTP/1.1\r\n\r\n`, [403]],
  ['HTTP/2 preface', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400, undefined]],
  ['an empty Host', () => `GET ${INFO} HTTP/1.1\r\nHost:\r\n\r\n`, [403]],
  ['two Hosts', (port) => `GET ${INFO} HTTP/1.1\r\n${host(port)}${host(port)}\r\n`, [403]],
  ['a foreign Host', () => `GET ${INFO} HTTP/1.1\r\nHost: evil\r\n\r\n`, [403]],
  ['a Host that is no host', () => `GET ${INFO} HTTP/1.1\r\nHost: evil:port\r\n\r\n`, [400, 403]],
  ['the absolute form', (port) => `GET http://127.0.0.1:${port}${INFO} HTTP/1.1\r\n${host(port)}\r\n`, [400]],
  ['the absolute form of elsewhere', (port) => `GET http://evil${INFO} HTTP/1.1\r\n${host(port)}\r\n`, [400]],
  ['the authority form', (port) => `GET 127.0.0.1:${port} HTTP/1.1\r\n${host(port)}\r\n`, [400]],
  ['CONNECT', (port) => `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n${host(port)}\r\n`, [400, undefined]],
  ['the asterisk form', (port) => `OPTIONS * HTTP/1.1\r\n${host(port)}\r\n`, [400]],
  ['a path out of the root', (port) => `GET /..${INFO} HTTP/1.1\r\n${host(port)}\r\n`, [404]],
  ['an encoded path out of the root', (port) => `GET /%2e%2e${INFO} HTTP/1.1\r\n${host(port)}\r\n`, [404]],
  ['raw bytes above 127', (port) => `GET /\xff\xfe HTTP/1.1\r\n${host(port)}\r\n`, [400, 404]],
  [
    'a header of 17 kB',
    (port) => `GET ${INFO} HTTP/1.1\r\n${host(port)}X: ${'x'.repeat(17_000)}\r\n\r\n`,
    [431],
  ],
  ['a path of 20 kB', (port) => `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${host(port)}\r\n`, [414, 431]],
  [
    '100 headers with the second Host last',
    (port) => `GET ${INFO} HTTP/1.1\r\n${host(port)}${'a: b\r\n'.repeat(100)}Host: evil\r\n\r\n`,
    [431],
  ],
  [
    'Content-Length and Transfer-Encoding',
    (port) =>
      `GET ${INFO} HTTP/1.1\r\n${host(port)}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    [400],
  ],
  ['a folded header', (port) => `GET ${INFO} HTTP/1.1\r\n${host(port)}X: a\r\n b\r\n\r\n`, [400]],
  ['bare line feeds', (port) => `GET ${INFO} HTTP/1.1\nHost: 127.0.0.1:${port}\n\n`, [400]],
  ['a space before a colon', (port) => `GET ${INFO} HTTP/1.1\r\n${host(port)}X : a\r\n\r\n`, [400]],
  ['no HTTP at all', () => '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', [400]],
]
for (const [title, request, statuses] of REFUSED) {
  test(`${title} is refused`, async (t) => {
    const { app, asked, log } = testCache(nar)
    const { port, log: serverLog } = await serve(t, app)
    const client = await rawClient(t, port)
    client.socket.end(Buffer.from(request(port), 'latin1'))
    const response = await client.all
    assert.ok(statuses.includes(statusOf(response)), response.slice(0, 200))
    assert.doesNotMatch(response, /StoreDir|node_modules|Error|at /)
    assert.deepEqual(asked, [])
    assert.deepEqual([...log.lines, ...serverLog.lines], [])
    // And the listener lives.
    assert.equal(statusOf(await exchange(t, port, getRequest(port, INFO))), 200)
  })
}

for (const method of ['TRACE', 'QUERY', 'DELETE', 'OPTIONS']) {
  test(`${method} is refused on the socket as well`, async (t) => {
    const { app, asked } = testCache(nar)
    const { port } = await serve(t, app)
    const response = await exchange(t, port, getRequest(port, NARINFO).replace('GET', method))
    assert.equal(statusOf(response), 405)
    assert.match(response, /\r\nallow: GET, HEAD\r\n/i)
    assert.deepEqual(asked, [])
  })
}

test('not even what is thrown and no Error makes a 5xx', async (t) => {
  // Rejected by a callback, as a careless library would.
  const fail = () => new Promise<never>((_, reject) => void setImmediate(reject, 'a string'))
  const { app } = testCache(nar, { resolver: { byHashPart: fail, byNarHash: fail } })
  const { port, log } = await serve(t, app)
  for (const path of [NARINFO, NAR]) {
    const response = await exchange(t, port, getRequest(port, path))
    assert.equal(statusOf(response), 404)
    assert.match(response, /\r\ncache-control: no-store\r\n/i)
  }
  assert.equal(log.lines.length, 2)
})

test('a header called __proto__ is a header like any other (C7)', async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  for (const name of ['__proto__', 'constructor', 'hasOwnProperty']) {
    assert.equal(statusOf(await exchange(t, port, getRequest(port, NARINFO, [`${name}: x`]))), 200)
  }
})

test('a POST of 1 GiB is answered before its body is sent, and never read to its end (C15)', async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  client.socket.write(`POST ${INFO} HTTP/1.1\r\n${host(port)}Content-Length: 1073741824\r\n\r\n`)
  assert.equal(statusOf(await client.until('\r\n\r\n')), 405)
  const megabyte = Buffer.alloc(1_000_000)
  while (!client.socket.destroyed) {
    client.socket.write(megabyte)
    const drained = once(client.socket, 'drain').catch(() => {})
    await Promise.race([drained, client.all])
  }
  assert.ok(client.socket.bytesWritten < 1_073_741_824, `${client.socket.bytesWritten} bytes were taken`)
})

test('a PUT that waits for "100 Continue" gets its refusal instead', async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  client.socket.write(
    `PUT ${NARINFO} HTTP/1.1\r\n${host(port)}Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n`,
  )
  assert.equal(statusOf(await client.until('\r\n\r\n')), 405)
})

test('1,000 pipelined requests are handled one at a time, and answered in order (C18)', async (t) => {
  let now = 0
  let most = 0
  const { app } = testCache(nar, {
    async *read(range) {
      now++
      most = Math.max(most, now)
      try {
        yield* chunksOf(nar.bytes, range)
      } finally {
        now--
      }
    },
  })
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  for (let i = 0; i < 999; i++) {
    client.socket.write(`GET ${NAR} HTTP/1.1\r\n${host(port)}Range: bytes=${i}-${i}\r\n\r\n`)
  }
  client.socket.write(getRequest(port, NAR, ['Range: bytes=999-999']))
  const starts = [...(await client.all).matchAll(/Content-Range: bytes ([0-9]+)-/g)].map(([, at]) =>
    Number(at),
  )
  assert.deepEqual(
    starts,
    Array.from({ length: 1000 }, (_, i) => i),
  )
  assert.equal(most, 1)
})

test('garbage behind a request cuts the response, and is never answered into its body', async (t) => {
  const gate = Promise.withResolvers<void>()
  const { app } = testCache(nar, {
    async *read() {
      yield nar.bytes.subarray(0, 1000)
      yield nar.bytes.subarray(1000, 2000)
      await gate.promise
      yield* chunksOf(nar.bytes, { start: 2000, end: SIZE })
    },
  })
  t.after(() => gate.resolve())
  const { port } = await serve(t, app)
  const client = await rawClient(t, port)
  client.socket.write(`GET ${NAR} HTTP/1.1\r\n${host(port)}\r\n`)
  await client.until('\r\n\r\n')
  client.socket.write('garbage\r\n\r\n')
  const body = bodyOf(await client.all)
  assert.ok(Buffer.from(body, 'latin1').equals(nar.bytes.subarray(0, body.length)))
})

test('idle sockets make room for a new client (C9)', { timeout: 60_000 }, async (t) => {
  const { app } = testCache(nar)
  const { port } = await serve(t, app)
  const clients = []
  for (let i = 0; i < 1_100; i++) clients.push(await rawClient(t, port))
  assert.equal(statusOf(await exchange(t, port, getRequest(port, INFO))), 200)
  // Those that came first had to go.
  await clients[0]?.all
})

test('close lets a response under way end, takes nobody new, and closes idle sockets at once', async (t) => {
  const gate = Promise.withResolvers<void>()
  const { app } = testCache(nar, {
    async *read(range) {
      yield nar.bytes.subarray(0, 1000)
      yield nar.bytes.subarray(1000, 2000)
      await gate.promise
      yield* chunksOf(nar.bytes, { start: 2000, end: range.end })
    },
  })
  const { port, listener } = await serve(t, app)
  const idle = await rawClient(t, port)
  idle.socket.write(`GET ${INFO} HTTP/1.1\r\n${host(port)}\r\n`)
  await idle.until('Priority: 30\n')
  const busy = await rawClient(t, port)
  busy.socket.write(`GET ${NAR} HTTP/1.1\r\n${host(port)}\r\n`)
  await busy.until('\r\n\r\n')
  const closed = listener.close(60_000)
  await idle.all
  await assert.rejects(rawClient(t, port), { code: 'ECONNREFUSED' })
  gate.resolve()
  await closed
  assert.ok(Buffer.from(bodyOf(await busy.all), 'latin1').equals(nar.bytes))
})

test('close cuts what is still under way when its grace is over', async (t) => {
  const { app } = testCache(nar, {
    async *read(_, { signal }) {
      yield nar.bytes.subarray(0, 1000)
      yield nar.bytes.subarray(1000, 2000)
      await once(signal, 'abort')
      throw signal.reason
    },
  })
  const { port, listener } = await serve(t, app)
  const busy = await rawClient(t, port)
  busy.socket.write(`GET ${NAR} HTTP/1.1\r\n${host(port)}\r\n`)
  await busy.until('\r\n\r\n')
  await listener.close(0)
  assert.ok(bodyOf(await busy.all).length < SIZE)
})

test('a unix socket is for its owner alone, replaces one that was left behind, and goes with its listener', async (t) => {
  const path = join(await tempDir(t), 'admin.sock')
  // A socket file whose owner was killed: close() would have removed it.
  const dead = createNetServer().listen(path)
  await once(dead, 'listening')
  const { app, log } = testCache(nar)
  const listener = await listen(app, { path }, { log })
  t.after(() => listener.close(0))
  t.after(() => dead.close())
  const { mode } = await stat(path)
  assert.equal(mode & 0o777, 0o600)
  const response = await new Promise<number | undefined>((resolve, reject) => {
    httpRequest({ socketPath: path, path: INFO, headers: { Host: 'cache.test:6277' } }, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
      .on('error', reject)
      .end()
  })
  assert.equal(response, 200)
  await listener.close(0)
  await assert.rejects(stat(path), { code: 'ENOENT' })
})

test('an address that is taken, and a path that is no socket, are told in one line', async (t) => {
  const { app, log } = testCache(nar)
  const { listener } = await serve(t, app)
  await assert.rejects(
    listen(app, listener.address, { log }),
    (error) =>
      error instanceof ListenError &&
      /^cannot listen on 127\.0\.0\.1:[0-9]+: .*EADDRINUSE/.test(error.message),
  )
  const path = join(await tempDir(t), 'file')
  await writeFile(path, 'precious')
  await assert.rejects(listen(app, { path }, { log }), ListenError)
  assert.equal((await stat(path)).size, 8)
})

test('the limits of limits.ts are those of the server', async (t) => {
  const { app } = testCache(nar)
  const seen = Promise.withResolvers<Server>()
  app.get('/seen/server', (c) => {
    seen.resolve((c.env.incoming.socket as Socket & { server: Server }).server)
    return c.text('')
  })
  const { port } = await serve(t, app)
  await exchange(t, port, getRequest(port, '/seen/server'))
  const server = await seen.promise
  assert.equal(server.headersTimeout, HTTP_HEADERS_TIMEOUT_MS)
  assert.equal(server.requestTimeout, HTTP_REQUEST_TIMEOUT_MS)
  assert.equal(server.keepAliveTimeout, HTTP_KEEP_ALIVE_TIMEOUT_MS)
  assert.equal(server.timeout, HTTP_STALL_TIMEOUT_MS)
  assert.equal(server.maxHeadersCount, HTTP_MAX_HEADERS_COUNT)
  assert.equal(server.maxRequestsPerSocket, HTTP_MAX_REQUESTS_PER_SOCKET)
})
