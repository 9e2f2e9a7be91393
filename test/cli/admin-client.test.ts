import assert from 'node:assert/strict'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { createAdminClient } from '../../src/cli/admin-client.ts'
import { NotReachableError, RemoteError } from '../../src/cli/errors.ts'
import { ADMIN_ANSWER_MAX_BYTES, ADMIN_BODY_MAX_BYTES, ADMIN_LINE_MAX_BYTES } from '../../src/limits.ts'
import { RequestError, VerificationError } from '../../src/operations/operations.ts'
import type { PublishEvent, PublishRequest } from '../../src/operations/operations.ts'
import { tempDir } from '../kit/temp.ts'
import { CID, fakeOperations, NAR_HASH, serveAdmin, STATUS, STORE_PATH } from './kit.ts'

const options = { signal: AbortSignal.timeout(20_000) }
const REQUEST: PublishRequest = { feed: 'a.example/b', dryRun: false, from: '/cache', paths: [STORE_PATH] }
const ITEM = {
  kind: 'item',
  path: 'x',
  narSize: 1,
  outcome: 'published',
  cid: CID,
} as unknown as PublishEvent
const DONE: PublishEvent = { kind: 'done', feed: 'a.example/b', added: 1, size: 1 }

async function collect(
  events: AsyncIterable<PublishEvent>,
  into: PublishEvent[] = [],
): Promise<PublishEvent[]> {
  for await (const event of events) into.push(event)
  return into
}

async function socketIn(t: TestContext): Promise<string> {
  return join(await tempDir(t), 'admin.sock')
}

/** Says what it is told to, whatever is asked. */
async function sayRaw(t: TestContext, answer: (socket: Socket) => void): Promise<string> {
  const path = await socketIn(t)
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => answer(socket))
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.after(() => server.close())
  return path
}

test('every operation goes over the socket and back', async (t) => {
  const path = await socketIn(t)
  const asked: unknown[] = []
  const report = { path: STORE_PATH, narHash: NAR_HASH, narSize: 7, keys: ['k-1'], cid: CID }
  await serveAdmin(
    t,
    path,
    fakeOperations({
      async createFeed(name) {
        asked.push(name)
        return { name, rootKey: 'root' }
      },
      async verify(what) {
        asked.push(what)
        return report
      },
      async *publish(request) {
        asked.push(request)
        await Promise.resolve()
        yield ITEM
        yield DONE
      },
    }),
  )
  const client = createAdminClient(path)
  assert.deepEqual(await client.status(options), STATUS)
  assert.deepEqual(await client.feeds(options), STATUS.feeds)
  assert.deepEqual(await client.createFeed('a.example/b', options), { name: 'a.example/b', rootKey: 'root' })
  assert.deepEqual(await client.verify(STORE_PATH, options), report)
  assert.deepEqual(await collect(client.publish(REQUEST, options)), [ITEM, DONE])
  assert.deepEqual(asked, ['a.example/b', STORE_PATH, REQUEST])
})

test('what went wrong there is thrown here as it was there', async (t) => {
  const path = await socketIn(t)
  let error: Error = new Error('none')
  await serveAdmin(
    t,
    path,
    fakeOperations({
      verify: () => Promise.reject(error),
      async *publish() {
        await Promise.resolve()
        yield ITEM
        throw error
      },
    }),
  )
  const client = createAdminClient(path)
  for (const [thrown, expected] of [
    [new RequestError('no such path'), RequestError],
    [new VerificationError('other bytes'), VerificationError],
    [new TypeError('a bug'), RemoteError],
  ] as const) {
    error = thrown
    const same = (got: unknown): boolean => got instanceof expected && got.message === thrown.message
    await assert.rejects(client.verify('x', options), same)
    const events: PublishEvent[] = []
    await assert.rejects(collect(client.publish(REQUEST, options), events), same)
    assert.deepEqual(events, [ITEM])
  }
})

test('no narswarm, and how to start one', async (t) => {
  const absent = await socketIn(t)
  await assert.rejects(createAdminClient(absent).status(options), (error: Error) => {
    return error instanceof NotReachableError && error.message.endsWith('start it: narswarm serve')
  })
  // A plain file where a crash left a socket answers ECONNREFUSED, as a stale socket does.
  await writeFile(absent, '')
  await assert.rejects(createAdminClient(absent).status(options), NotReachableError)
})

test(
  "somebody else's narswarm",
  { skip: process.getuid?.() === 0 && 'root may open any socket' },
  async (t) => {
    const dir = join(await tempDir(t), 'theirs')
    await mkdir(dir)
    await serveAdmin(t, join(dir, 'admin.sock'), fakeOperations())
    await chmod(dir, 0o000)
    t.after(() => chmod(dir, 0o700))
    await assert.rejects(
      createAdminClient(join(dir, 'admin.sock')).status(options),
      /belongs to another user/,
    )
  },
)

test('a request above the cap is refused with its reason', async (t) => {
  const path = await socketIn(t)
  await serveAdmin(t, path, fakeOperations())
  const paths = Array.from({ length: 2 }, () => 'x'.repeat(ADMIN_BODY_MAX_BYTES / 2))
  await assert.rejects(
    collect(createAdminClient(path).publish({ ...REQUEST, paths }, options)),
    /expected a body of at most/,
  )
})

test('a narswarm that is gone in the middle of its answer', async (t) => {
  const path = await socketIn(t)
  const { listener } = await serveAdmin(
    t,
    path,
    fakeOperations({
      async *publish() {
        await Promise.resolve()
        yield ITEM
        await new Promise(() => {})
      },
    }),
  )
  const events = createAdminClient(path).publish(REQUEST, options)[Symbol.asyncIterator]()
  assert.deepEqual((await events.next()).value, ITEM)
  await listener.close(0)
  await assert.rejects(events.next(), NotReachableError)
})

const HEAD = 'HTTP/1.1 200 OK\r\nConnection: close\r\n'
test('answers of something else than narswarm', async (t) => {
  const cases: { title: string; answer: string | Buffer; says: RegExp }[] = [
    { title: 'closes at once', answer: '', says: /broke off/ },
    { title: 'no HTTP', answer: 'SSH-2.0-OpenSSH_9\r\n', says: /broke off/ },
    { title: 'no JSON', answer: `${HEAD}\r\n<html>`, says: /expected JSON, got "<html>"/ },
    {
      title: 'another status',
      answer: 'HTTP/1.1 418 No\r\nContent-Length: 2\r\n\r\n{}',
      says: /answered 418/,
    },
    { title: 'a cut body', answer: `${HEAD}Content-Length: 9\r\n\r\n{}`, says: /broke off/ },
    {
      title: 'a body above the cap',
      answer: Buffer.concat([Buffer.from(`${HEAD}\r\n`), Buffer.alloc(ADMIN_ANSWER_MAX_BYTES + 1, ' ')]),
      says: /expected an answer of at most/,
    },
  ]
  for (const { title, answer, says } of cases) {
    await t.test(title, async (t) => {
      const path = await sayRaw(t, (socket) => socket.end(answer))
      await assert.rejects(createAdminClient(path).status(options), says)
    })
  }
})

test('streams of publish that cannot be right', async (t) => {
  const cases: { title: string; lines: string; says: RegExp }[] = [
    { title: 'no last line', lines: `${JSON.stringify(ITEM)}\n`, says: /ended before its last line/ },
    { title: 'a cut line', lines: `${JSON.stringify(ITEM)}\n{"kind":"do`, says: /in the middle of a line/ },
    { title: 'no JSON', lines: 'x\n', says: /expected JSON, got "x"/ },
    { title: 'null', lines: 'null\n', says: /expected an event, got "null"/ },
    { title: 'an unknown kind', lines: '{"kind":"party"}\n', says: /expected an event/ },
    {
      title: 'a line above the cap',
      lines: 'x'.repeat(ADMIN_LINE_MAX_BYTES + 1),
      says: /expected lines of at most/,
    },
  ]
  for (const { title, lines, says } of cases) {
    await t.test(title, async (t) => {
      const path = await sayRaw(t, (socket) => socket.end(`${HEAD}\r\n${lines}`))
      await assert.rejects(collect(createAdminClient(path).publish(REQUEST, options)), says)
    })
  }
})

test('an abort is thrown as its reason', async (t) => {
  const path = await socketIn(t)
  const controller = new AbortController()
  await serveAdmin(
    t,
    path,
    fakeOperations({
      verify: (_, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error))
          controller.abort(new RangeError('enough'))
        }),
    }),
  )
  await assert.rejects(createAdminClient(path).verify('x', controller), RangeError)
})
