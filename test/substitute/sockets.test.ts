/** The engine between real sockets: upstreams over HTTP, compressed or not, and peers that are trustless gateways. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import type { NarPlan } from '../../src/dag/planner.ts'
import type { Compression, NarInfo } from '../../src/nix/narinfo.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST } from '../../src/source.ts'
import type { BlockSource } from '../../src/source.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import { createUpstream } from '../../src/upstream/upstream.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { recordingLog } from '../kit/log.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { body, ranged, serveCache } from '../upstream/cache-server.ts'
import type { Answer, CacheServer } from '../upstream/cache-server.ts'
import { freshHosts } from '../upstream/hosts.ts'
import { storeXz } from '../upstream/store-xz.ts'
import { blocksOf, engine, flipped, KIB, MIB, narInfoOf, patientClock, tells, until } from './kit.ts'
import type { Engine, TestSource } from './kit.ts'

const nar = noise(8 * MIB + 321)
const plan: NarPlan = planOf(nar)
const info = narInfoOf(plan)
const blocks = blocksOf(nar)

type Coding = Extract<Compression, 'none' | 'zstd' | 'xz'>
const CODINGS: readonly Coding[] = ['none', 'zstd', 'xz']

const coded: Record<Coding, Uint8Array> = { none: nar, zstd: zstdCompressSync(nar), xz: storeXz(nar) }

/** Sends the first half and cuts the connection, or falls silent. */
function half(bytes: Uint8Array, then: 'cut' | 'silence'): Answer {
  return (response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, bytes.length >> 1), () => {
      if (then === 'cut') setTimeout(() => response.destroy(), 50)
    })
  }
}

async function upstream(
  t: TestContext,
  coding: Coding,
  answer: Answer = coding === 'none' ? ranged(nar) : body(coded[coding]),
  told: NarInfo = info,
): Promise<CacheServer & { source: Upstream }> {
  const file = { ...told, url: `nar/it.nar`, compression: coding }
  const server = await serveCache(t, {
    [`/${hashPartOf(told.storePath)}.narinfo`]: body(formatNarInfo(file, STORE_DIR)),
    '/nar/it.nar': answer,
  })
  const source = createUpstream(
    { url: server.url, storeDir: STORE_DIR },
    { log: recordingLog(), hosts: freshHosts().hosts },
  )
  t.after(() => source.close())
  return { ...server, source }
}

interface GatewayPeer {
  source: BlockSource
  readonly given: () => number
  readonly asked: () => number
}

/** A gateway with these blocks. `answer` may do something else than answer. */
async function gateway(
  t: TestContext,
  has: ReadonlyMap<string, Uint8Array>,
  answer: (response: ServerResponse, block: Uint8Array, count: number) => void = (response, block) => {
    response.end(block)
  },
): Promise<GatewayPeer> {
  let asked = 0
  let given = 0
  const server = createServer((request, response) => {
    const block = has.get(/^\/ipfs\/([^?]*)/.exec(request.url ?? '')?.[1] ?? '')
    if (block === undefined) {
      response.writeHead(404).end()
      return
    }
    asked += 1
    response.on('finish', () => (given += block.length))
    response.setHeader('content-type', 'application/vnd.ipld.raw')
    response.setHeader('content-length', block.length)
    answer(response, block, asked)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const source = createGatewaySource({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  t.after(async () => {
    await source.close()
    server.closeAllConnections()
    server.close()
  })
  return { source, given: () => given, asked: () => asked }
}

const feed = (told: NarInfo = info, root = plan.root): TestSource =>
  tells('feed', COST.local, { info: told, cid: root })

async function whole(node: Engine, told: NarInfo = info): Promise<Buffer> {
  const found = await node.resolver.byHashPart(hashPartOf(told.storePath), options)
  assert.ok(found)
  const transfer = await node.transfers.open(found, undefined, options)
  const bytes = await collect(transfer.read({ start: 0, end: told.narSize }, options))
  await until(() => node.transfers.running() === 0)
  return bytes
}

/** All told of the NAR, so that nobody has to be asked for it in mid-transfer. */
async function known(node: Engine): Promise<void> {
  const found = await node.resolver.byHashPart(hashPartOf(info.storePath), options)
  assert.ok(found)
  await node.resolver.askAll(found, options)
}

/** Who falls silent is waited for by the clock; not so long that somebody is overtaken while a thread for xz starts. */
const clockFor = (then: 'cut' | 'silence', coding: Coding): (() => number) =>
  then === 'cut' ? patientClock : () => performance.now() / (coding === 'xz' ? 4 : 1)

const narRequests = ({ requests }: CacheServer) => requests.filter(({ path }) => path === '/nar/it.nar')
const sourcesOf = (node: Engine): string =>
  node.log.lines.find(({ message }) => message.startsWith('NAR verified'))?.message ?? ''

describe('over sockets, a change of source in mid-NAR', { concurrency: 4 }, () => {
  for (const coding of CODINGS) {
    it(`from a peer that dies to an upstream (${coding})`, async (t) => {
      const peer = await gateway(t, blocks, (response, block, count) => {
        // The root and three leaves.
        if (count <= 4) response.end(block)
        else response.destroy()
      })
      const up = await upstream(t, coding)
      const node = await engine(t, {
        sources: [feed(), up.source],
        peers: [peer.source],
        clock: patientClock,
      })
      assert.deepEqual(await whole(node), nar)
      const [request] = narRequests(up)
      assert.equal(narRequests(up).length, 1)
      const match = /^bytes=([0-9]+)-$/.exec(request?.range ?? '')
      if (coding === 'none') assert.equal(Number(match?.[1]) % MIB, 0)
      assert.match(sourcesOf(node), /bytes from http:.* bytes from upstream:/)
    })
    it(`from a peer that falls silent to an upstream (${coding})`, { timeout: 20_000 }, async (t) => {
      const peer = await gateway(t, blocks, (response, block, count) => {
        if (count <= 4) response.end(block)
        else response.write(block.subarray(0, 1_000))
      })
      const up = await upstream(t, coding)
      const node = await engine(t, { sources: [feed(), up.source], peers: [peer.source] })
      assert.deepEqual(await whole(node), nar)
      assert.match(sourcesOf(node), /bytes from http:.* bytes from upstream:/)
    })
    for (const then of ['cut', 'silence'] as const) {
      it(`from an upstream (${coding}, ${then}) to a peer`, { timeout: 20_000 }, async (t) => {
        const peer = await gateway(t, blocks)
        const up = await upstream(t, coding, half(coded[coding], then))
        const clock = clockFor(then, coding)
        const node = await engine(t, { sources: [feed(), up.source], peers: [peer.source], clock })
        await known(node)
        // It failed a moment ago: so it is the last resort.
        node.scores.faulted(peer.source.id)
        assert.deepEqual(await whole(node), nar)
        if (then === 'cut') assert.equal(narRequests(up).length, 1)
        assert.match(sourcesOf(node), /bytes from upstream:.* bytes from http:/)
      })
    }
    for (const other of CODINGS) {
      it(`from an upstream (${coding}) to another one (${other})`, async (t) => {
        const first = await upstream(t, coding, half(coded[coding], 'cut'))
        const second = await upstream(t, other)
        const node = await engine(t, { sources: [first.source, second.source], clock: patientClock })
        await known(node)
        // The one that was measured to be slower is the second.
        node.scores.paced(first.source.id, 10 * MIB, 1_000)
        node.scores.paced(second.source.id, 5 * MIB, 1_000)
        assert.deepEqual(await whole(node), nar)
        assert.equal(narRequests(first).length, 1)
        assert.equal(narRequests(second).length, 1)
        const from = Number(/ ([0-9]+) bytes from upstream/.exec(sourcesOf(node))?.[1])
        if (other === 'none') assert.equal(narRequests(second)[0]?.range, `bytes=${from}-`)
      })
    }
  }
})

describe('over sockets, several peers', () => {
  it(
    'share a NAR, the faster ones more of it, while one dies and one lies',
    { timeout: 30_000 },
    async (t) => {
      const large = noise(48 * MIB, 'large')
      const largePlan = planOf(large)
      const told = narInfoOf(largePlan, 'large-1.0')
      const has = blocksOf(large)
      const later = (ms: number) => (response: ServerResponse, block: Uint8Array) => {
        setTimeout(() => response.end(block), ms)
      }
      const fast = await gateway(t, has, later(10))
      const slow = await gateway(t, has, later(150))
      const dying = await gateway(t, has, (response, block, count) => {
        if (count > 4) response.destroy()
        else response.end(block)
      })
      const liar = await gateway(t, has, (response, block, count) => {
        response.end(count === 3 ? flipped(block) : block)
      })
      const peers = [fast, slow, dying, liar].map(({ source }) => source)
      const node = await engine(t, { sources: [feed(told, largePlan.root)], peers })
      assert.deepEqual(await whole(node, told), large)
      assert.ok(fast.given() > 2 * slow.given(), `${fast.given()} and ${slow.given()}`)
      assert.ok(slow.given() > 0)
      assert.equal(node.scores.all().get(liar.source.id)?.lies, 1)
      const about = node.log.lines.filter(
        ({ fields }) => (fields as { source?: string }).source === liar.source.id,
      )
      assert.deepEqual(
        about.filter(({ level }) => level === 'warn').map(({ message }) => message.replace(/:.*/, '')),
        ['source gave wrong bytes and is out'],
      )
    },
  )
})

describe('over sockets, with dead peers', () => {
  const silent = (): void => {}
  it('an upstream is followed at once for all NARs but the first', { timeout: 20_000 }, async (t) => {
    const dead = [await gateway(t, blocks, silent), await gateway(t, blocks, silent)]
    const list = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const bytes = noise(2 * MIB + i, `path-${i}`)
        const told = narInfoOf(planOf(bytes), `path-${i}`)
        const has = blocksOf(bytes)
        const up = await upstream(t, 'none', ranged(bytes), told)
        return { bytes, told, has, up }
      }),
    )
    const all = new Map(list.flatMap(({ has }) => [...has]))
    for (const [cid, block] of all) blocks.set(cid, block)
    t.after(() => {
      for (const cid of all.keys()) blocks.delete(cid)
    })
    const node = await engine(t, {
      sources: list.flatMap(({ told, bytes, up }) => [feed(told, planOf(bytes).root), up.source]),
      peers: dead.map(({ source }) => source),
    })
    const [first, ...others] = list
    assert.ok(first)
    assert.deepEqual(await whole(node, first.told), first.bytes)
    const asked = dead.map((one) => one.asked())
    assert.ok(Math.max(...asked) > 0)
    for (const { told, bytes } of others) assert.deepEqual(await whole(node, told), bytes)
    for (const { up } of list) assert.equal(narRequests(up).length, 1)
    // No NAR asked them again; a probe may have.
    for (const [i, one] of dead.entries()) assert.ok(one.asked() - (asked[i] ?? 0) <= 3)
    const told = node.log.lines.filter(({ level }) => level === 'error' || level === 'warn')
    assert.ok(told.length <= dead.length, JSON.stringify(told))
  })
})

describe('over sockets, a pace', () => {
  it('far below that of the next way ends in a change', { timeout: 30_000 }, async (t) => {
    // 40 KiB a second: no silence, and no way to install anything.
    const trickle: Answer = (response) => {
      response.writeHead(200, { 'content-length': nar.length })
      let at = 0
      const timer = setInterval(() => response.write(nar.subarray(at, (at += 4 * KIB))), 100)
      response.on('close', () => clearInterval(timer))
    }
    const slow = await upstream(t, 'none', trickle)
    const fast = await upstream(t, 'zstd')
    const node = await engine(t, { sources: [slow.source, fast.source] })
    await known(node)
    node.scores.paced(slow.source.id, 10 * MIB, 1_000)
    node.scores.paced(fast.source.id, 5 * MIB, 1_000)
    assert.deepEqual(await whole(node), nar)
    assert.equal(narRequests(fast).length, 1)
  })
})

describe('leaves that travel coded', () => {
  const text = Buffer.alloc(
    5 * MIB + 99,
    'no two leaves are alike where the period is none of a power of two\n',
  )
  const textPlan = planOf(text)
  const textInfo = narInfoOf(textPlan)
  const sendCoded = (response: ServerResponse, bytes: Uint8Array): void => {
    const frame = zstdCompressSync(bytes)
    response.setHeader('content-encoding', 'zstd')
    response.setHeader('content-length', frame.length)
    response.end(frame)
  }

  it('make the NAR that was signed, and are counted as what they are and as what they were', async (t) => {
    const peer = await gateway(t, blocksOf(text), sendCoded)
    const node = await engine(t, { sources: [feed(textInfo, textPlan.root)], peers: [peer.source] })
    assert.deepEqual(await whole(node, textInfo), text)
    const score = node.scores.all().get(peer.source.id)
    assert.ok((score?.bytes ?? 0) >= text.length)
    assert.ok((score?.wireBytes ?? Infinity) < text.length / 10)
  })

  it('and are not what was asked for: their peer is out, the NAR comes from elsewhere', async (t) => {
    const liar = await gateway(t, blocksOf(text), (response, bytes) => sendCoded(response, flipped(bytes)))
    const honest = await gateway(t, blocksOf(text), sendCoded)
    const node = await engine(t, {
      sources: [feed(textInfo, textPlan.root)],
      peers: [liar.source, honest.source],
    })
    assert.deepEqual(await whole(node, textInfo), text)
    assert.equal(node.scores.all().get(liar.source.id)?.lies, 1)
    assert.equal(node.scores.all().get(honest.source.id)?.lies, 0)
  })
})
