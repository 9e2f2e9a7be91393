/** Neighbours who want the same NAR: real engines over real sockets, one upstream that counts. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError } from '../../src/source.ts'
import type { StreamSource } from '../../src/source.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import { ALONG_HEADER, formatAlong } from '../../src/swarm/along-wire.ts'
import type { Neighbour } from '../../src/swarm/neighbours.ts'
import { rendezvousOrder } from '../../src/swarm/rendezvous.ts'
import { createGate } from '../e2e/kit/gate.ts'
import type { Gate } from '../e2e/kit/gate.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { neighbour } from '../swarm/near.ts'
import { flipped, KIB, MIB, narInfoOf, tells, until } from './kit.ts'
import { lan } from './lan.ts'
import type { LanNode } from './lan.ts'

const nar = noise(3 * MIB + 4_321)
const info = narInfoOf(planOf(nar))
const CHUNK = 64 * KIB

/** One far away, for all: counts what it gives. */
function farAway(
  told: NarInfo = info,
  bytes: Uint8Array = nar,
  gate?: Gate,
  fault: (name: string, at: number) => void = () => {},
) {
  const opened: string[] = []
  let given = 0
  const stream = (name: string): StreamSource => ({
    id: 'upstream',
    cost: COST.upstream,
    async *open(_, from, { signal }) {
      opened.push(`${name} ${from}`)
      for (let at = from; at < bytes.length; at += CHUNK) {
        await gate?.pass()
        fault(name, at)
        await sleep(1, undefined, { signal })
        const chunk = bytes.subarray(at, at + CHUNK)
        given += chunk.length
        yield chunk
      }
    },
  })
  const sources = (name: string) => [tells('upstream', COST.upstream, { info: told, stream: stream(name) })]
  return { opened, sources, given: () => given }
}

/** What its Nix does first. */
async function wants(node: LanNode, told: NarInfo = info): Promise<VerifiedNarInfo> {
  const found = await node.resolver.byHashPart(hashPartOf(told.storePath), options)
  assert.ok(found)
  node.transfers.hint(found)
  return found
}

async function installs(node: LanNode, told: NarInfo = info): Promise<Buffer> {
  const found = await wants(node, told)
  const transfer = await node.transfers.open(found, undefined, options)
  const bytes = await collect(transfer.read({ start: 0, end: told.narSize }, options))
  await ended(node)
  return bytes
}

const ended = (...nodes: LanNode[]): Promise<void> =>
  until(() => nodes.every(({ transfers }) => transfers.running() === 0))

/** Where the bytes of the NAR came from, as the log tells it. */
function sourcesOf(node: LanNode): unknown {
  const line = node.log.lines.find(({ message }) => message.startsWith('NAR verified'))
  return line && (line.fields as { sources?: unknown }).sources
}

type Name = 'a' | 'b' | 'c'
const NAMES: readonly Name[] = ['a', 'b', 'c']
/** In the order of this NAR. */
const [first, second, third] = rendezvousOrder(
  info.narHash,
  NAMES.map((name) => `narswarm:${name}`),
).map((id) => id.replace('narswarm:', '')) as [Name, Name, Name]

describe('neighbours who want the same NAR', () => {
  it('at the same moment fetch it once: the first in its order does', async (t) => {
    const far = farAway()
    const nodes = await lan(t, NAMES, far.sources)
    const all = Object.values(nodes)
    for (const bytes of await Promise.all(all.map((node) => installs(node)))) assert.deepEqual(bytes, nar)
    assert.deepEqual(far.opened, [`${first} 0`])
    assert.equal(far.given(), nar.length)
    for (const name of [second, third]) {
      assert.deepEqual(sourcesOf(nodes[name]), { [`neighbour:${first}/nar`]: nar.length })
    }
  })
  it('of whom the first does not want it: the second fetches it', async (t) => {
    const far = farAway()
    const nodes = await lan(t, NAMES, far.sources)
    await Promise.all([installs(nodes[third]), installs(nodes[second])])
    assert.deepEqual(far.opened, [`${second} 0`])
  })
  it('of whom the first comes a little later: the others wait for it', async (t) => {
    const far = farAway()
    const nodes = await lan(t, NAMES, far.sources)
    await wants(nodes[first])
    const others = [installs(nodes[third]), installs(nodes[second])]
    await sleep(50)
    await Promise.all([...others, installs(nodes[first])])
    assert.deepEqual(far.opened, [`${first} 0`])
  })
  it('of whom the first comes too late: the second fetches it, and the first reads along', async (t) => {
    const gate = createGate(4)
    const far = farAway(info, nar, gate)
    const nodes = await lan(t, NAMES, far.sources)
    await wants(nodes[first])
    const others = [installs(nodes[third]), installs(nodes[second])]
    await gate.full
    const late = installs(nodes[first])
    await until(() => nodes[first].transfers.underWay.get(info.narHash)?.part === 'along')
    gate.open()
    for (const bytes of await Promise.all([...others, late])) assert.deepEqual(bytes, nar)
    assert.deepEqual(far.opened, [`${second} 0`])
  })
  it('gets from a neighbour what that has by now, though no narinfo of it said so', async (t) => {
    const far = farAway()
    const nodes = await lan(t, ['a', 'b'], far.sources)
    await installs(nodes.a)
    assert.deepEqual(await installs(nodes.b), nar)
    assert.deepEqual(far.opened, ['a 0'])
  })
  it('fetch each of many once between them, some here, some there', async (t) => {
    const nars = Array.from({ length: 12 }, (_, i) => noise(200 * KIB + i, `nar ${i}`))
    const infos = nars.map((bytes, i) => narInfoOf(planOf(bytes), `many-${i}`))
    const fars = infos.map((told, i) => farAway(told, nars[i]))
    const nodes = await lan(t, NAMES, (name) => fars.flatMap(({ sources }) => sources(name)))
    await Promise.all(
      Object.values(nodes).map(async (node) => {
        for (const told of infos) await installs(node, told)
      }),
    )
    const given = fars.reduce((sum, far) => sum + far.given(), 0)
    const size = nars.reduce((sum, { length }) => sum + length, 0)
    // Each by itself makes 3; who has no CPU answers later than the others wait.
    assert.ok(given < 2 * size, `upstream gave ${given} bytes of ${size}`)
    const fetchers = new Set(fars.flatMap(({ opened }) => opened))
    assert.ok(fetchers.size > 1, 'one fetched them all')
  })
})

describe('a neighbour that is read along', () => {
  it('and dies at half is replaced at the byte', async (t) => {
    const gate = createGate(24)
    const far = farAway(info, nar, gate)
    const nodes = await lan(t, ['a', 'b'], far.sources)
    const dying = installs(nodes.a).catch(() => {})
    await until(() => nodes.a.transfers.underWay.get(info.narHash)?.part === 'own')
    const bytes = installs(nodes.b)
    await gate.full
    await until(() => nodes.b.transfers.underWay.get(info.narHash)?.part === 'along')
    await nodes.a.die()
    gate.open()
    assert.deepEqual(await bytes, nar)
    const given = (sourcesOf(nodes.b) as Record<string, number>)['neighbour:a/nar'] ?? 0
    assert.deepEqual(far.opened, ['a 0', `b ${given}`])
    await dying
  })
  it('and is never given to one that it follows itself', async (t) => {
    // The upstream breaks off once, and the first looks around anew: who follows it is no source for it.
    const gate = createGate(24)
    let cuts = 1
    const far = farAway(info, nar, gate, (name, at) => {
      if (name === 'a' && at === 24 * CHUNK && cuts-- > 0) throw new SourceFaultError('upstream', 'cut')
    })
    const nodes = await lan(t, ['a', 'b'], far.sources)
    const all = [installs(nodes.a)]
    await until(() => nodes.a.transfers.underWay.get(info.narHash)?.part === 'own')
    all.push(installs(nodes.b))
    await until(() => nodes.b.transfers.underWay.get(info.narHash)?.part === 'along')
    await gate.full
    gate.open()
    for (const bytes of await Promise.all(all)) assert.deepEqual(bytes, nar)
    assert.deepEqual(far.opened, ['a 0', `a ${24 * CHUNK}`])
    assert.deepEqual(sourcesOf(nodes.b), { 'neighbour:a/nar': nar.length })
  })
})

describe('a neighbour that says it fetches the NAR', () => {
  /** Four times as fast as the day, and no more: on a busy machine a pause of some 100 ms is no silence of the neighbour's. */
  const clock = (): number => performance.now() * 4
  const half = 24 * CHUNK

  async function stranger(
    t: TestContext,
    bytes: Uint8Array,
    give: (response: ServerResponse) => void,
    name = 'stranger',
  ): Promise<Neighbour> {
    const server = createServer((request, response) => {
      response.writeHead(200, { 'content-type': 'application/x-nix-nar', 'content-length': bytes.length })
      if (request.method === 'HEAD') response.end()
      else give(response)
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    return neighbour(name, `http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  }

  const ends: [name: string, give: (response: ServerResponse) => void][] = [
    ['falls silent', (response) => response.write(nar.subarray(0, half))],
    [
      'gives less than the minimum rate',
      (response) => {
        response.write(nar.subarray(0, half - 3 * KIB))
        let at = half - 3 * KIB
        const timer = setInterval(() => {
          if (at < half) response.write(nar.subarray(at, ++at))
        }, 20)
        response.on('close', () => clearInterval(timer))
      },
    ],
    [
      'dies',
      (response) => {
        response.write(nar.subarray(0, half), () => setTimeout(() => response.destroy(), 50))
      },
    ],
  ]
  for (const [name, give] of ends) {
    it(`and ${name} is left for upstream, at the byte`, async (t) => {
      const far = farAway()
      const strangers = [await stranger(t, nar, give)]
      const { a } = await lan(t, ['a'], far.sources, { clock, strangers })
      assert.deepEqual(await installs(a), nar)
      const given = (sourcesOf(a) as Record<string, number>)['neighbour:stranger/nar'] ?? 0
      assert.deepEqual(sourcesOf(a), { 'neighbour:stranger/nar': given, upstream: nar.length - given })
      // All of it, or what had come when it was left: this clock gives nobody much time.
      assert.ok(given > 0 && given <= half)
      assert.equal(far.opened.length, 1)
      assert.ok(far.given() <= nar.length - given + 3 * KIB)
    })
  }
  it('and gives nothing of it is left for upstream', async (t) => {
    const far = farAway()
    const strangers = [await stranger(t, nar, () => {})]
    const { a } = await lan(t, ['a'], far.sources, { clock, strangers })
    assert.deepEqual(await installs(a), nar)
    assert.deepEqual(far.opened, ['a 0'])
  })
  it('and gives nothing of it is left for upstream, however many do so', async (t) => {
    const far = farAway()
    const names = ['one', 'two', 'three', 'four']
    const strangers = await Promise.all(names.map((name) => stranger(t, nar, () => {}, name)))
    const { a } = await lan(t, ['a'], far.sources, { clock, strangers })
    assert.deepEqual(await installs(a), nar)
    assert.deepEqual(far.opened, ['a 0'])
  })
  for (const size of [200 * KIB, 3 * MIB]) {
    it(`and lies costs its ${size} bytes, and Nix does not notice`, async (t) => {
      const bytes = noise(size, 'lied about')
      const told = narInfoOf(planOf(bytes), 'lied-about')
      const far = farAway(told, bytes)
      const strangers = [await stranger(t, bytes, (response) => response.end(flipped(bytes)))]
      const { a } = await lan(t, ['a'], far.sources, { strangers })
      assert.deepEqual(await installs(a, told), bytes)
      assert.deepEqual(far.opened, ['a 0'])
      assert.equal(a.scores.usable('neighbour:stranger/nar'), false)
    })
  }
})

describe('reading along', () => {
  it('is for those who ask for it: to a plain Nix the NAR is not here', async (t) => {
    const gate = createGate(8)
    const nodes = await lan(t, ['a'], farAway(info, nar, gate).sources)
    const bytes = installs(nodes.a)
    await gate.full
    const url = `${nodes.a.url}nar/${info.narHash}.nar`
    const plain = await fetch(url)
    assert.equal(plain.status, 404)
    const headers = { [ALONG_HEADER]: formatAlong({ begunMs: 0, expectedMs: 0 }), range: 'bytes=100000-' }
    const along = await fetch(url, { headers })
    assert.equal(along.status, 206)
    assert.equal(along.headers.get('content-range'), `bytes 100000-${nar.length - 1}/${nar.length}`)
    assert.equal(along.headers.get('cache-control'), 'no-store')
    gate.open()
    assert.deepEqual(Buffer.from(await along.arrayBuffer()), nar.subarray(100_000))
    await bytes
  })
})
