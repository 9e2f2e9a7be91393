import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import type { SwarmNode } from '../../src/swarm/node.ts'
import type { DiscoverConfig } from '../../src/swarm/worker-protocol.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { LOOPBACK, startNode } from './peers.ts'

interface Looking {
  readonly node: SwarmNode
  readonly log: ReturnType<typeof recordingLog>
  /** The next that it meets. */
  met(): Promise<{ peerId: string; url: string }>
}

/** A port for mDNS that nobody else speaks it on. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4')
  socket.bind(0)
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}

async function looking(
  t: TestContext,
  http: number,
  config: Partial<DiscoverConfig>,
  storeDir = '/nix/store',
): Promise<Looking> {
  const log = recordingLog()
  const node = await startNode(t, await tempDir(t), { listen: [LOOPBACK, '/ip6/::1/tcp/0'] }, log)
  const seen: { peerId: string; url: string }[] = []
  const waiting: ((one: { peerId: string; url: string }) => void)[] = []
  node.discover(
    { hello: { http, storeDir }, interfaces: ['lo'], named: [], ...config },
    ({ peerId, url }) => {
      const one = { peerId, url: url.href }
      const next = waiting.shift()
      if (next === undefined) seen.push(one)
      else next(one)
    },
  )
  return {
    node,
    log,
    met: () => {
      const one = seen.shift()
      return one === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(one)
    },
  }
}

test(
  'two that listen on one link find each other by mDNS and prove who they are',
  { timeout: 20_000 },
  async (t) => {
    const mdns = { port: await freePort() }
    const a = await looking(t, 7001, { mdns })
    const b = await looking(t, 7002, { mdns })
    const [ofA, ofB] = await Promise.all([a.met(), b.met()])
    assert.equal(ofA.peerId, b.node.peerId)
    assert.equal(ofB.peerId, a.node.peerId)
    assert.match(ofA.url, /^http:\/\/(127\.0\.0\.1|\[::1\]):7002\/$/)
    assert.match(ofB.url, /^http:\/\/(127\.0\.0\.1|\[::1\]):7001\/$/)
  },
)

for (const [family, index] of [
  ['127.0.0.1', 0],
  ['[::1]', 1],
] as const) {
  test(
    `one that was named by a multiaddr of ${family} is met without mDNS, and meets us`,
    { timeout: 20_000 },
    async (t) => {
      const a = await looking(t, 7001, {})
      const address = a.node.addrs()[index] ?? ''
      const b = await looking(t, 7002, { named: [address] })
      assert.deepEqual(await b.met(), { peerId: a.node.peerId, url: `http://${family}:7001/` })
      assert.deepEqual(await a.met(), { peerId: b.node.peerId, url: `http://${family}:7002/` })
    },
  )
}

test('one that is named later is met too', { timeout: 20_000 }, async (t) => {
  const a = await looking(t, 7001, {})
  const b = await looking(t, 0, {})
  b.node.name(a.node.addrs().slice(0, 1))
  assert.deepEqual(await b.met(), { peerId: a.node.peerId, url: 'http://127.0.0.1:7001/' })
})
