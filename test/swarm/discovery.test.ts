import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { HELLO_PROTOCOL } from '../../src/swarm/hello.ts'
import { formatAdvert } from '../../src/swarm/mdns-packet.ts'
import type { SwarmNode } from '../../src/swarm/node.ts'
import type { DiscoverConfig } from '../../src/swarm/worker-protocol.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { LOOPBACK, scriptedPeer, startNode } from './peers.ts'

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

test('a narswarm for another store is no neighbour, which is told once', { timeout: 30_000 }, async (t) => {
  const other = await looking(t, 7001, {}, '/gnu/store')
  const right = await looking(t, 7002, {})
  const b = await looking(t, 7003, { named: [] })
  const [addressOfOther = '', addressOfRight = ''] = [other.node.addrs()[0], right.node.addrs()[0]]
  b.node.name([addressOfOther])
  while (!b.log.lines.some(({ message }) => message.includes('another store'))) await sleep(20)
  b.node.name([addressOfRight])
  assert.equal((await b.met()).peerId, right.node.peerId)
  b.node.name([addressOfOther, addressOfRight])
  assert.equal(b.log.lines.filter(({ message }) => message.includes('another store')).length, 1)
})

const STRANGE: Record<string, (stream: Stream) => void> = {
  'says nonsense': (stream) => void stream.send(Buffer.from('<html>\n')),
  'sends without end': (stream) => void stream.send(Buffer.alloc(64 * 1024, 'x')),
  'hangs up': (stream) => stream.abort(new Error('no')),
  'says nothing': () => {},
}
for (const [name, answer] of Object.entries(STRANGE)) {
  test(`one that ${name} is no neighbour, and the next one is met`, { timeout: 30_000 }, async (t) => {
    const strange = await scriptedPeer(t, () => {})
    await strange.libp2p.handle(HELLO_PROTOCOL, answer)
    const a = await looking(t, 7001, {})
    const b = await looking(t, 7002, { named: [strange.address, a.node.addrs()[0] ?? ''] })
    assert.equal((await b.met()).peerId, a.node.peerId)
    assert.deepEqual(
      b.log.lines.filter(({ level }) => level === 'error'),
      [],
    )
  })
}

test('one that nobody looks for yet is told nothing', { timeout: 30_000 }, async (t) => {
  const quiet = await startNode(t, await tempDir(t), { listen: [LOOPBACK] })
  const asker = await scriptedPeer(t, () => {})
  const stream = await asker.libp2p.dialProtocol(multiaddr(quiet.addrs()[0] ?? ''), HELLO_PROTOCOL)
  const read = async (): Promise<number> => {
    let size = 0
    for await (const chunk of stream) size += chunk.byteLength
    return size
  }
  assert.equal(await read().catch(() => 0), 0)
})

test('a flood of adverts and of garbage keeps nobody from being found', { timeout: 30_000 }, async (t) => {
  const port = await freePort()
  const a = await looking(t, 7001, { mdns: { port } })
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  socket.bind(port)
  await once(socket, 'listening')
  socket.setMulticastInterface('127.0.0.1')
  t.after(() => socket.close())
  for (let n = 0; n < 500; n++) {
    const peerId = `12D3KooW${String(n).padStart(44, 'a')}`
    socket.send(
      formatAdvert('x', { peerId, addresses: [{ host: '127.0.0.1', port: 1 }] }),
      port,
      '224.0.0.251',
    )
    socket.send(Buffer.from(`${'\u0000'.repeat(n % 40)}_narswarm${n}`), port, '224.0.0.251')
  }
  const b = await looking(t, 7002, { mdns: { port } })
  const [ofA, ofB] = await Promise.all([a.met(), b.met()])
  assert.deepEqual([ofA.peerId, ofB.peerId], [b.node.peerId, a.node.peerId])
  assert.deepEqual(
    a.log.lines.filter(({ level }) => level === 'error'),
    [],
  )
})
