import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { createAdminApp } from '../../src/http/admin-app.ts'
import { listen } from '../../src/http/server.ts'
import { ADMIN_BODY_MAX_BYTES } from '../../src/limits.ts'
import { RequestError, VerificationError } from '../../src/operations/operations.ts'
import type { Operations } from '../../src/operations/operations.ts'
import { PublishError } from '../../src/publish/errors.ts'
import { SourceFaultError } from '../../src/source.ts'
import { fakeOperations, STATUS } from '../cli/kit.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

const ORIGIN = 'http://narswarm'

function post(
  operations: Operations,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
): Promise<Response> {
  const app = createAdminApp({ operations, log: recordingLog() })
  return Promise.resolve(app.request(`${ORIGIN}${path}`, { method: 'POST', body }))
}

test('status and feeds are JSON documents', async () => {
  const app = createAdminApp({ operations: fakeOperations(), log: recordingLog() })
  const status = await app.request(`${ORIGIN}/v1/status`)
  assert.equal(status.headers.get('content-type'), 'application/json')
  assert.deepEqual(await status.json(), STATUS)
  assert.deepEqual(await (await app.request(`${ORIGIN}/v1/feeds`)).json(), STATUS.feeds)
})

test('what is not an operation is 404', async () => {
  const app = createAdminApp({ operations: fakeOperations(), log: recordingLog() })
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/v1/verify'],
    ['POST', '/v1/status'],
    ['GET', '/v2/status'],
  ] as const) {
    assert.equal((await app.request(`${ORIGIN}${path}`, { method })).status, 404, `${method} ${path}`)
  }
})

test('a malformed request is 400 with its place, and reaches no operation', async (t) => {
  const cases: { title: string; path: string; body: string; says: RegExp }[] = [
    { title: 'no body', path: '/v1/verify', body: '', says: /expected a body of JSON/ },
    { title: 'not JSON', path: '/v1/verify', body: '{"path": ', says: /expected a body of JSON/ },
    { title: 'not UTF-8 JSON', path: '/v1/verify', body: '\u0000\u0001', says: /expected a body of JSON/ },
    { title: 'a list', path: '/v1/verify', body: '[]', says: /expected object, received array/ },
    { title: 'a missing field', path: '/v1/verify', body: '{}', says: /path/ },
    { title: 'an unknown field', path: '/v1/verify', body: '{"path":"x","force":true}', says: /"force"/ },
    {
      title: 'a wrong type',
      path: '/v1/feeds',
      body: '{"name":7}',
      says: /expected string, received number\n.* at name/,
    },
    {
      title: 'a wrong item',
      path: '/v1/publish',
      body: '{"feed":"a","dryRun":false,"paths":["x",7]}',
      says: /at paths\[1\]/,
    },
    { title: 'a prototype', path: '/v1/feeds', body: '{"name":"a","__proto__":{"x":1}}', says: /__proto__/ },
  ]
  for (const { title, path, body, says } of cases) {
    await t.test(title, async () => {
      const response = await post(fakeOperations(), path, body)
      assert.equal(response.status, 400)
      const told = (await response.json()) as { kind: string; failure: string; message: string }
      assert.equal(told.failure, 'request')
      assert.match(told.message, says)
    })
  }
})

test('a body above the cap is 413, with and without Content-Length', async () => {
  const large = Buffer.alloc(ADMIN_BODY_MAX_BYTES + 1, ' ')
  const named = await post(fakeOperations(), '/v1/verify', large)
  assert.equal(named.status, 413)
  const app = createAdminApp({ operations: fakeOperations(), log: recordingLog() })
  const stream = new Blob([large]).stream()
  const streamed = new Request(`${ORIGIN}/v1/verify`, {
    method: 'POST',
    body: stream,
    duplex: 'half',
  })
  assert.equal((await app.request(streamed)).status, 413)
})

test('what an operation throws decides the status', async (t) => {
  const cases: { error: Error; status: number; failure: string; logged: number }[] = [
    { error: new RequestError('no such path'), status: 400, failure: 'request', logged: 0 },
    { error: new PublishError('not a valid path'), status: 400, failure: 'request', logged: 0 },
    { error: new VerificationError('other bytes'), status: 422, failure: 'verification', logged: 0 },
    {
      error: new SourceFaultError('upstream:x', 'no answer'),
      status: 502,
      failure: 'unreachable',
      logged: 0,
    },
    { error: new TypeError('a bug'), status: 500, failure: 'fault', logged: 1 },
  ]
  for (const { error, status, failure, logged } of cases) {
    await t.test(error.name, async () => {
      const log = recordingLog()
      const operations = fakeOperations({ verify: () => Promise.reject(error) })
      const app = createAdminApp({ operations, log })
      const response = await app.request(`${ORIGIN}/v1/verify`, { method: 'POST', body: '{"path":"x"}' })
      assert.equal(response.status, status)
      assert.deepEqual(await response.json(), { kind: 'error', failure, message: error.message })
      assert.equal(log.lines.filter(({ level }) => level === 'error').length, logged)
    })
  }
})

test('publish sends one line an event; a failure before the first is a status, after it the last line', async () => {
  const item = { kind: 'item', path: 'x', narSize: 1, outcome: 'published', cid: 'y' } as const
  const body = JSON.stringify({ feed: 'a.example/b', dryRun: false, paths: ['x'] })
  const after = (items: number): Operations =>
    fakeOperations({
      async *publish() {
        await Promise.resolve()
        for (let i = 0; i < items; i++) yield item as never
        throw new VerificationError('other bytes')
      },
    })
  const before = await post(after(0), '/v1/publish', body)
  assert.equal(before.status, 422)
  const later = await post(after(2), '/v1/publish', body)
  assert.equal(later.status, 200)
  assert.equal(later.headers.get('content-type'), 'application/x-ndjson')
  const lines = (await later.text()).trimEnd().split('\n')
  assert.deepEqual(
    lines.map((text) => JSON.parse(text) as unknown),
    [item, item, { kind: 'error', failure: 'verification', message: 'other bytes' }],
  )
})

async function overSocket(t: TestContext, operations: Operations): Promise<string> {
  const path = join(await tempDir(t), 'admin.sock')
  const log = recordingLog()
  const listener = await listen(createAdminApp({ operations, log }), { path }, { log })
  t.after(() => listener.close(0))
  return path
}

for (const verb of ['verify', 'publish'] as const) {
  test(`a client that goes away aborts its ${verb}`, { timeout: 10_000 }, async (t) => {
    const begun = Promise.withResolvers<void>()
    const aborted = Promise.withResolvers<unknown>()
    const work = (signal: AbortSignal): Promise<never> => {
      begun.resolve()
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted.resolve(signal.reason)
          reject(signal.reason as Error)
        })
      })
    }
    const path = await overSocket(
      t,
      fakeOperations({
        verify: (_, { signal }) => work(signal),
        async *publish(_, { signal }) {
          yield await work(signal)
        },
      }),
    )
    const body = verb === 'verify' ? '{"path":"x"}' : '{"feed":"a","dryRun":false,"paths":[]}'
    const socket = connect(path)
    socket.end(
      `POST /v1/${verb} HTTP/1.1\r\nHost: narswarm\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      () => {},
    )
    await begun.promise
    socket.destroy()
    assert.equal(((await aborted.promise) as Error).name, 'ClientGoneError')
  })
}
