import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import { createPeerBudgets } from '../../src/http/peer-budgets.ts'
import type { PeerBudgets } from '../../src/http/peer-budgets.ts'
import { listen } from '../../src/http/server.ts'
import { PEER_WAIT_MS } from '../../src/limits.ts'
import { createSharedLine, createUpload } from '../../src/swarm/upload.ts'
import type { Upload } from '../../src/swarm/upload.ts'
import { recordingLog } from '../kit/log.ts'
import {
  bodyOf,
  exchange,
  getRequest,
  HASH_PART,
  openGate,
  pattern,
  rawClient,
  serve,
  statusOf,
  testNar,
  testPeer,
} from './kit.ts'

const MIB = 1024 * 1024
const nar = testNar(pattern(3 * MIB + 5))
const NAR = `/nar/${nar.info.narHash}.nar`
const NARINFO = `/${HASH_PART}.narinfo`
const ROOT = `/ipfs/${nar.plan.root.toString()}?format=raw`

async function peer(t: TestContext, gate: Partial<{ budgets: PeerBudgets; upload: Upload }> = {}) {
  const { app } = testPeer([nar], { feeds: { read: () => Promise.resolve(Buffer.from('a feed')) }, ...gate })
  const { port } = await serve(t, app)
  return { get: (target: string) => exchange(t, port, getRequest(port, target)), port }
}

const OVER_BUDGET: [target: string, status: number, retryAfter: boolean][] = [
  [NARINFO, 404, false],
  [NAR, 404, false],
  ['/nix-cache-info', 404, false],
  [ROOT, 429, true],
  ['/feed/example.org/x/root/1', 429, true],
]
for (const [target, status, retryAfter] of OVER_BUDGET) {
  test(`over the budget: ${target.slice(0, 20)} is ${status}, and kept by no cache`, async (t) => {
    const refusing = { ...openGate().budgets, enter: () => Promise.resolve(undefined) }
    const { get } = await peer(t, { budgets: refusing })
    const answer = await get(target)
    assert.equal(statusOf(answer), status)
    assert.equal(/^retry-after: 1\r$/im.test(answer), retryAfter)
    assert.match(answer, /^cache-control: no-store\r$/im)
  })
}

test('bytes are refused while the upload is busy for long, and narinfos are not', async (t) => {
  const upload: Upload = { take: () => undefined, backlogMs: () => PEER_WAIT_MS + 2_500, total: () => 0 }
  const { get } = await peer(t, { upload })
  assert.deepEqual(
    [statusOf(await get(NAR)), statusOf(await get(ROOT)), statusOf(await get(NARINFO))],
    [404, 429, 200],
  )
  // When it would be its turn.
  assert.match(await get(ROOT), /^retry-after: 3\r$/im)
})

test('every byte of a body is counted, for its address and in all', async (t) => {
  const gate = openGate()
  const { get } = await peer(t, gate)
  const sizes = [NAR, ROOT, NARINFO, '/feed/example.org/x/root/1', '/nowhere']
  let bytes = 0
  for (const target of sizes) bytes += bodyOf(await get(target)).length
  assert.ok(bytes > nar.info.narSize)
  const [use] = gate.budgets.report()
  assert.deepEqual([use?.address, use?.requests, use?.refused], ['127.0.0.1', sizes.length, 0])
  // What hono answers for a route that is not there is no content.
  assert.ok(bytes - gate.upload.total() < 20)
  assert.equal(use?.bytes, gate.upload.total())
})

test('a body leaves at the pace of the upload, whole', async (t) => {
  const waits: number[] = []
  let now = 0
  const upload = createUpload(createSharedLine(MIB), {
    clock: () => now,
    wait: (ms) => {
      waits.push(ms)
      now += ms
      return Promise.resolve()
    },
  })
  const { get } = await peer(t, { upload })
  assert.equal(bodyOf(await get(NAR)), Buffer.from(nar.bytes).toString('latin1'))
  // 3 MiB at 1 MiB/s, but for the last chunk, which nobody waits behind.
  assert.ok(now > 2900 && now <= 3000, `${now} ms`)
  assert.ok(waits.length > 40)
})

test('who goes away gives its place back', async (t) => {
  const budgets = createPeerBudgets({ clock: () => performance.now(), log: recordingLog() })
  const entered = Promise.withResolvers<void>()
  const left = Promise.withResolvers<void>()
  const told: PeerBudgets = {
    ...budgets,
    async enter(...request) {
      const visit = await budgets.enter(...request)
      entered.resolve()
      return (
        visit && {
          ...visit,
          leave() {
            visit.leave()
            left.resolve()
          },
        }
      )
    },
  }
  const never: Upload = { ...openGate().upload, take: () => new Promise(() => {}) }
  const { port } = await peer(t, { budgets: told, upload: never })
  const client = await rawClient(t, port)
  client.socket.write(getRequest(port, NAR))
  await entered.promise
  client.socket.destroy()
  await left.promise
})

test('addresses that are not accepted are closed before they say a word', async (t) => {
  const asked: string[] = []
  const app = { fetch: () => new Response('here') } as unknown as Parameters<typeof listen>[0]
  const listener = await listen(
    app,
    { host: '127.0.0.1', port: 0 },
    {
      log: recordingLog(),
      accepts(address) {
        asked.push(address)
        return asked.length > 1
      },
    },
  )
  t.after(() => listener.close(0))
  const port = 'port' in listener.address ? listener.address.port : 0
  const refused = await rawClient(t, port)
  if (!refused.socket.closed) await once(refused.socket, 'close')
  assert.equal(await refused.all, '')
  assert.equal(bodyOf(await exchange(t, port, getRequest(port, '/'))), 'here')
  assert.deepEqual(asked, ['127.0.0.1', '127.0.0.1'])
})

test('whose bytes wait for the upload has the head of its answer by then', async (t) => {
  const turn = Promise.withResolvers<void>()
  const { port } = await peer(t, { upload: { ...openGate().upload, take: () => turn.promise } })
  const client = await rawClient(t, port)
  client.socket.write(getRequest(port, ROOT))
  const head = await client.until('\r\n\r\n')
  assert.equal(statusOf(head), 200)
  assert.equal(bodyOf(head), '')
  turn.resolve()
  const [length] = /(?<=^content-length: )[0-9]+/im.exec(head) ?? []
  assert.equal(bodyOf(await client.all).length, Number(length))
})

test('a client that leaves while its bytes wait is no error of ours', async (t) => {
  const gone = Promise.withResolvers<void>()
  let taken = 0
  const take: Upload['take'] = (_, _who, { signal }) => {
    if (taken++ > 0) return undefined
    signal.addEventListener('abort', () => gone.resolve(), { once: true })
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }
  const { port, get } = await peer(t, { upload: { ...openGate().upload, take } })
  const client = await rawClient(t, port)
  client.socket.write(getRequest(port, ROOT))
  await client.until('\r\n\r\n')
  client.socket.destroy()
  await gone.promise
  // It lives, and serves others.
  assert.equal(statusOf(await get(ROOT)), 200)
})
