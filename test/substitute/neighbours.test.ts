/** Neighbours in the engine, each a real machine on loopback. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { NEIGHBOUR_WAIT_MS, RESOLVE_DEADLINE_MS, UNPROVEN_HELD_MAX_BYTES } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceRestingError } from '../../src/source.ts'
import type { NarInfoSource } from '../../src/source.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { cacheFiles, gatewayFiles, serveNear } from '../swarm/near-server.ts'
import type { Mischief, NearServer } from '../swarm/near-server.ts'
import { neighbour, neighboursOf } from '../swarm/near.ts'
import {
  blocksOf,
  engine,
  flipped,
  MIB,
  narInfoOf,
  patientClock,
  silence,
  stream,
  tells,
  until,
} from './kit.ts'
import type { Engine, TestStream } from './kit.ts'

const nar = noise(6 * MIB + 100, 'of the LAN')
const plan = planOf(nar)
const info = narInfoOf(plan, 'lan-1.0')
const hashPart = hashPartOf(info.storePath)
const wrong = noise(nar.length, 'something else')

/** A narswarm: tells `root`, and has the blocks of `bytes`. */
function narswarm(
  bytes = nar,
  told: NarInfo = { ...info, cid: plan.root.toString() },
): Map<string, Uint8Array> {
  return new Map([...cacheFiles(told, bytes), ...gatewayFiles(blocksOf(bytes))])
}

/** A binary cache: no CID, no blocks. */
function cache(bytes = nar): Map<string, Uint8Array> {
  return cacheFiles(info, bytes)
}

interface Near {
  readonly name: string
  readonly server: NearServer
  readonly kind: 'narswarm' | 'cache'
}

async function near(
  t: TestContext,
  name: string,
  files: ReadonlyMap<string, Uint8Array>,
  mischief?: Mischief,
): Promise<Near> {
  const kind = [...files.keys()].some((path) => path.startsWith('ipfs/')) ? 'narswarm' : 'cache'
  return { name, server: await serveNear(t, files, mischief), kind }
}

async function among(
  t: TestContext,
  all: readonly Near[],
  sources: NarInfoSource[] = [],
  clock: () => number = Date.now,
) {
  const table = neighboursOf(...all.map(({ name, server, kind }) => neighbour(name, server.url, kind)))
  const node = await engine(t, { neighbours: table, sources, clock })
  return { ...node, told: table.told, neighbours: table }
}

function upstreamOf(bytes: Uint8Array = nar): { source: NarInfoSource; stream: TestStream } {
  const one = stream('upstream:u', bytes)
  return { source: tells('upstream:u', COST.upstream, { info, stream: one }), stream: one }
}

const dead: NarInfoSource = {
  id: 'upstream:dead',
  cost: COST.upstream,
  lookup: async () => {
    throw new SourceRestingError('upstream:dead', 'left alone')
  },
}

async function resolved(node: Engine): Promise<VerifiedNarInfo> {
  const found = await node.resolver.byHashPart(hashPart, options)
  assert.ok(found)
  return found
}

async function whole(node: Engine, found: VerifiedNarInfo): Promise<Buffer> {
  const transfer = await node.transfers.open(found, undefined, options)
  return collect(transfer.read({ start: 0, end: found.narSize }, options))
}

const silentNarInfo: Mischief = (path) => path.endsWith('.narinfo')

describe('narinfos of neighbours', () => {
  it('with every upstream silent one installs, at once', async (t) => {
    const one = await near(t, 'one', narswarm())
    const silent: NarInfoSource = { ...dead, lookup: (_, { signal }) => silence(signal) }
    const node = await among(t, [one], [silent, dead])
    const begun = performance.now()
    const found = await resolved(node)
    assert.ok(performance.now() - begun < RESOLVE_DEADLINE_MS / 2)
    assert.deepEqual(await whole(node, found), nar)
  })
  it('the CID is used, and neither kept nor told to others', async (t) => {
    const node = await among(t, [await near(t, 'one', narswarm())])
    const found = await resolved(node)
    assert.equal(found.cid, undefined)
    assert.equal(node.table.byHashPart(hashPart)?.cid, undefined)
    assert.equal(node.resolver.offer(found).roots[0]?.root.toString(), plan.root.toString())
  })
  it('a miss of the upstream does not wait for a neighbour that is silent', async (t) => {
    const one = await near(t, 'one', narswarm(), silentNarInfo)
    const node = await among(t, [one], [tells('upstream:u', COST.upstream, {})])
    assert.equal(await node.resolver.byHashPart(hashPart, options), undefined)
    assert.deepEqual(node.told.failed, [], 'it waited until the neighbour was given up')
  })
  it('a miss of the upstream does wait for one that answers', async (t) => {
    const late: Mischief = (path, body, response) => {
      if (!path.endsWith('.narinfo')) return false
      setTimeout(() => response.end(body), 5)
      return true
    }
    const one = await near(t, 'one', narswarm(), late)
    const node = await among(t, [one], [tells('upstream:u', COST.upstream, {})])
    assert.ok(await resolved(node))
  })
  it('a neighbour that is late is waited for when nobody else can say anything', async (t) => {
    const late: Mischief = (path, body, response) => {
      if (!path.endsWith('.narinfo')) return false
      setTimeout(() => response.end(body), 2 * NEIGHBOUR_WAIT_MS)
      return true
    }
    const node = await among(t, [await near(t, 'one', narswarm(), late)], [dead])
    assert.ok(await resolved(node))
  })
  it('a forged signature is a lie, and the next one is believed', async (t) => {
    const [signature] = info.signatures
    assert.ok(signature)
    const bytes = Uint8Array.from(signature.bytes)
    bytes[5]! ^= 1
    const forged = { ...info, narSize: info.narSize, signatures: [{ ...signature, bytes }] }
    const liar = await near(t, 'liar', cacheFiles(forged, nar))
    const node = await among(t, [liar, await near(t, 'good', cache())])
    await resolved(node)
    await until(() => node.told.lied.length > 0)
    assert.match(node.told.lied[0] ?? '', /^cache:liar: .*refused/)
    assert.equal(node.told.lied.length, 1)
  })
  it('one that only other keys have signed is no lie', async (t) => {
    const own = { ...info, signatures: [] }
    const node = await among(t, [await near(t, 'one', cacheFiles(own, nar))])
    assert.equal(await node.resolver.byHashPart(hashPart, options), undefined)
    assert.deepEqual([...node.told.lied, ...node.told.failed], [])
  })
})

describe('bytes of neighbours', () => {
  it('leaves come from all that are narswarms', async (t) => {
    const both = await Promise.all([near(t, 'a', narswarm()), near(t, 'b', narswarm())])
    const node = await among(t, both, [], patientClock)
    assert.deepEqual(await whole(node, await resolved(node)), nar)
    for (const { server } of both) assert.ok(server.given() > MIB, `${server.given()} bytes`)
    const { byKind, byNeighbour } = node.transfers.counts()
    assert.deepEqual(byKind, new Map([['neighbour', { bytes: nar.length, nars: 1 }]]))
    assert.equal(byNeighbour.size, 2)
    assert.deepEqual([...node.told.lied, ...node.told.failed], [])
  })
  it('one that dies in the middle is replaced', async (t) => {
    let leaves = 0
    const a: Near = await near(t, 'a', narswarm(), (path) => {
      if (path.startsWith('ipfs/') && ++leaves === 3) a.server.die()
    })
    const node = await among(t, [a, await near(t, 'b', narswarm())])
    assert.deepEqual(await whole(node, await resolved(node)), nar)
    assert.match(node.told.failed[0] ?? '', /^narswarm:a: /)
    assert.equal(node.told.failed.length, 1)
  })
  it('when the only narswarm dies the NAR of a cache goes on', async (t) => {
    let leaves = 0
    const a: Near = await near(t, 'a', narswarm(), (path) => {
      if (path.startsWith('ipfs/') && ++leaves === 4) a.server.die()
    })
    const b = await near(t, 'b', cache())
    const node = await among(t, [a, b])
    assert.deepEqual(await whole(node, await resolved(node)), nar)
    assert.ok(b.server.asked.some((path) => path.startsWith('nar/')))
  })
  it('one that flips a bit costs a leaf, and is out', async (t) => {
    const spared = `ipfs/${plan.root.toString()}?format=raw`
    const liar = await near(t, 'liar', narswarm(), (path, body) =>
      path.startsWith('ipfs/') && path !== spared && body !== undefined ? flipped(body) : false,
    )
    const node = await among(t, [liar, await near(t, 'good', narswarm())])
    assert.deepEqual(await whole(node, await resolved(node)), nar)
    assert.match(node.told.lied[0] ?? '', /^narswarm:liar: leaf .* at NAR byte [0-9]+: .*another sha256$/)
    assert.equal(node.told.lied.length, 1)
  })
  it('a wrong NAR costs its size once; the reader sees nothing of it', async (t) => {
    const liar = await near(t, 'liar', cache(wrong))
    const upstream = upstreamOf()
    const node = await among(t, [liar], [upstream.source])
    const found = await resolved(node)
    while (node.resolver.offer(found).streams.length < 2) await sleep(5)
    assert.deepEqual(await whole(node, found), nar)
    assert.match(node.told.lied[0] ?? '', /^cache:liar: what it gave as NAR \S+ hashes to \S+$/)
    assert.equal(liar.server.asked.filter((path) => path.startsWith('nar/')).length, 1)
    assert.deepEqual(upstream.stream.opened, [0])
  })
  for (const [title, bytes, verdict, reason] of [
    ['gives more than the NAR has lied', Buffer.concat([nar, nar]), 'lied', /more than the/],
    ['stops early has failed', nar.subarray(0, 2 * MIB), 'failed', /expected \d+ bytes of NAR, got 2097152/],
  ] as const) {
    it(`one that ${title}`, async (t) => {
      const node = await among(t, [await near(t, 'one', cache(bytes))], [upstreamOf().source])
      const found = await resolved(node)
      while (node.resolver.offer(found).streams.length < 2) await sleep(5)
      assert.deepEqual(await whole(node, found), nar)
      assert.match(node.told[verdict][0] ?? '', reason)
      assert.equal(node.told.lied.length + node.told.failed.length, 1)
    })
  }
  it('a CID of something else is tried once, and its teller is out', async (t) => {
    const lie = { ...info, cid: planOf(wrong).root.toString() }
    const liar = await near(t, 'liar', new Map([...narswarm(wrong, lie), ...cacheFiles(lie, wrong)]))
    const upstream = upstreamOf()
    const node = await among(t, [liar], [upstream.source])
    const found = await resolved(node)
    while (node.resolver.offer(found).roots.length < 1 || node.resolver.offer(found).streams.length < 2)
      await sleep(5)
    assert.deepEqual(await whole(node, found), nar)
    assert.ok(node.told.lied.length > 0)
    assert.ok(liar.server.given() < 1.2 * nar.length, `${liar.server.given()} bytes were had of the liar`)
  })
  it('one that gave a wrong block and is asked again by the user is asked first, as before', async (t) => {
    let lies = 1
    const liar = await near(t, 'liar', narswarm(), (path, body, response) => {
      if (!path.startsWith('ipfs/') || body === undefined || body.length < MIB || lies-- <= 0) return false
      response.writeHead(200, { 'content-length': body.length }).end(flipped(body))
      return true
    })
    const node = await among(t, [liar], [upstreamOf().source])
    const found = await resolved(node)
    while (node.resolver.offer(found).roots.length < 1) await sleep(5)
    assert.deepEqual(await whole(node, found), nar)
    assert.equal(node.told.lied.length, 1)
    assert.equal(node.scores.usable('neighbour:liar'), false)
    node.neighbours.unban('narswarm:liar')
    await resolved(node)
    await node.resolver.askAll(found, options)
    assert.equal(node.scores.trusted('neighbour:liar'), true)
  })
  it("a neighbour's CID comes after that of a feed, and disputes nothing", async (t) => {
    const lie = { ...info, cid: planOf(wrong).root.toString() }
    const liar = await near(t, 'liar', narswarm(wrong, lie))
    const good = await near(t, 'good', new Map([...narswarm()].filter(([path]) => path.startsWith('ipfs/'))))
    const node = await among(t, [liar, good], [tells('feed:f', COST.local, { info, cid: plan.root })])
    const found = await resolved(node)
    await node.resolver.askAll(found, options)
    assert.deepEqual(
      node.resolver.offer(found).roots.map(({ from }) => from),
      ['feed:f', 'neighbour:liar'],
    )
    const transfer = await node.transfers.open(found, undefined, options)
    assert.deepEqual(await collect(transfer.read({ start: 0, end: nar.length }, options)), nar)
    assert.deepEqual(node.told.lied, [])
  })
  it('of two whose bytes together are wrong neither is called a liar, and each is proved by itself', async (t) => {
    // The first gives a wrong half and dies once; the second is honest.
    let cut = 0
    const liar = await near(t, 'liar', cache(), (path, body, response) => {
      if (!path.startsWith('nar/') || body === undefined || cut++ > 0) return false
      response.writeHead(200, { 'content-length': body.length })
      response.write(wrong.subarray(0, 3 * MIB), () => setTimeout(() => response.destroy(), 50))
      return true
    })
    const good = await near(t, 'good', cache())
    const node = await among(t, [liar, good])
    const found = await resolved(node)
    while (node.resolver.offer(found).streams.length < 2) await sleep(5)
    assert.deepEqual(await whole(node, found), nar)
    assert.deepEqual(node.told.lied, [])
  })
  it('large NARs go out while they come', async (t) => {
    const large = noise(UNPROVEN_HELD_MAX_BYTES + 1 * MIB, 'large')
    const largeInfo = narInfoOf(planOf(large), 'large-1.0')
    let release = (): void => {}
    const one = await near(t, 'one', cacheFiles(largeInfo, large), (path, body, response) => {
      if (!path.startsWith('nar/') || body === undefined) return false
      response.writeHead(200, { 'content-length': body.length })
      response.write(body.subarray(0, 4 * MIB))
      release = () => response.end(body.subarray(4 * MIB))
      return true
    })
    const node = await among(t, [one])
    const found = await node.resolver.byHashPart(hashPartOf(largeInfo.storePath), options)
    assert.ok(found)
    const transfer = await node.transfers.open(found, undefined, options)
    const bytes = transfer.read({ start: 0, end: large.length }, options)[Symbol.asyncIterator]()
    assert.ok((await bytes.next()).done !== true)
    release()
    await transfer.done
  })
})
