import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, it } from 'node:test'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import {
  HELD_BACK_BYTES,
  SOURCE_MAX_FAULTS_PER_NAR,
  STRANGER_WAYS_COUNT,
  TRANSFERS_MAX_COUNT,
} from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError } from '../../src/source.ts'
import type { Cost, StreamSource } from '../../src/source.ts'
import { NarHashMismatchError, NoSourceError } from '../../src/substitute/errors.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import { collect, noise, options, pathIn, planOf } from '../spool/kit.ts'
import {
  blocksOf,
  diesAt,
  engine,
  flipped,
  KIB,
  MIB,
  narInfoOf,
  peer,
  silence,
  stream,
  tells,
  testPolicy,
  timersAlive,
  until,
} from './kit.ts'
import type { Engine, TestSource } from './kit.ts'

const nar = noise(3 * MIB + 12_345)
const plan = planOf(nar)
const info = narInfoOf(plan)
const blocks = blocksOf(nar)
/** Another NAR of the very same size. */
const twin = noise(nar.length, 'twin')
const twinPlan = planOf(twin)

const small = noise(200 * KIB, 'small')
const smallInfo = narInfoOf(planOf(small), 'small-1.0')

/** Upstreams or neighbours that tell the narinfo and offer these streams. */
function streams(told: NarInfo, ...list: readonly StreamSource[]): TestSource[] {
  return list.map((one) => tells(one.id, one.cost, { info: told, stream: one }))
}

/** A feed that tells this root. */
function feed(told: NarInfo, root = plan.root): TestSource {
  return tells('feed', COST.local, { info: told, cid: root })
}

async function resolved(node: Engine, told: NarInfo): Promise<VerifiedNarInfo> {
  const found = await node.resolver.byHashPart(hashPartOf(told.storePath), options)
  assert.ok(found)
  return found
}

async function whole(node: Engine, told: NarInfo): Promise<Buffer> {
  const transfer = await node.transfers.open(await resolved(node, told), undefined, options)
  const bytes = await collect(transfer.read({ start: 0, end: told.narSize }, options))
  await ended(node)
  return bytes
}

/** Until nothing moves any more. */
const ended = (node: Engine): Promise<void> => until(() => node.transfers.running() === 0)

const errors = (node: Engine) => node.log.lines.filter(({ level }) => level === 'error')

describe('transfer: one way after the other', () => {
  it('takes leaves from peers and asks no upstream for bytes', async (t) => {
    const upstream = stream('upstream', nar)
    const [a, b] = [peer('a', blocks), peer('b', blocks)]
    const node = await engine(t, { sources: [feed(info), ...streams(info, upstream)], peers: [a, b] })
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [])
    assert.equal(
      a.given() + b.given(),
      [...blocks.values()].reduce((sum, one) => sum + one.length, 0),
    )
    assert.equal(node.spool.has(info.narHash), true)
    assert.deepEqual(node.index.nar(info.narHash)?.root, plan.root)
    const line = node.log.lines.find(({ message }) => message.startsWith('NAR verified'))
    assert.ok(line)
    assert.match(line.message, /bytes from a/)
    assert.match(line.message, /bytes from b/)
  })
  it('goes on with the stream at the very byte where the blocks stopped', async (t) => {
    const upstream = stream('upstream', nar)
    const some = new Map(blocks)
    some.delete(rawCid(sha256(nar.subarray(2 * MIB, 3 * MIB))).toString())
    const sources = [feed(info), ...streams(info, upstream)]
    const node = await engine(t, { sources, peers: [peer('a', some)] })
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [2 * MIB])
  })
  it('goes on with the next stream where one dies, then with the blocks', async (t) => {
    const at = MIB + 3 * 64 * KIB
    const first = stream('first', nar, diesAt('first', at), { cost: COST.neighbour })
    const second = stream('second', nar, diesAt('second', at + 64 * KIB), { cost: COST.upstream })
    // The root comes to be known only when the streams are used up.
    const late: TestSource = tells('late', COST.peer, async () =>
      late.asked > 1 ? { info, cid: plan.root } : undefined,
    )
    const sources = [...streams(info, first, second), late]
    const node = await engine(t, { sources, peers: [peer('a', blocks)] })
    await resolved(node, info)
    await until(() => sources.every(({ asked }) => asked === 1))
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual([first.opened[0], second.opened[0]], [0, at])
    // What came before they died is told by `status` too.
    assert.equal(node.scores.all().get('first')?.bytes, at)
    assert.ok((node.scores.all().get('second')?.bytes ?? 0) > 0)
  })
  it('tries the only stream again when it broke off with bytes in hand', async (t) => {
    const upstream = stream('upstream', nar, diesAt('upstream', MIB, 1))
    const node = await engine(t, { sources: streams(info, upstream) })
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [0, MIB])
  })
  it('does not try a dead stream for ever', async (t) => {
    const upstream = stream('upstream', nar, diesAt('upstream', 0))
    const node = await engine(t, { sources: streams(info, upstream) })
    await assert.rejects(whole(node, info), (error) => {
      assert.ok(error instanceof NoSourceError)
      assert.match(error.message, /connection reset/)
      return true
    })
    await ended(node)
    assert.deepEqual(upstream.opened, [0])
    assert.equal(node.spool.has(info.narHash), false)
    assert.equal(existsSync(pathIn(node.dir, info.narHash, true)), false)
  })
  it('takes a stream that ends early for a fault, not for the NAR', async (t) => {
    const short = stream('short', nar.subarray(0, -1), undefined, { cost: COST.neighbour })
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, short, upstream) })
    await resolved(node, info)
    await until(() => node.sources.every((one) => (one as TestSource).asked === 1))
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.usable('short'), false)
    assert.deepEqual(upstream.opened, [nar.length - 1])
  })
  it('lets the hash decide when a stream gives more than the NAR', async (t) => {
    const long = stream('long', Buffer.concat([nar, noise(100)]))
    const node = await engine(t, { sources: streams(info, long) })
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.usable('long'), false)
  })
  it(
    'leaves a silent peer for the upstream, and does not ask it first the next time',
    { timeout: 20_000 },
    async (t) => {
      const silent = peer('silent', blocks, (_, { signal }) => silence(signal))
      const upstream = stream('upstream', nar)
      const next = noise(2 * MIB, 'next')
      const nextInfo = narInfoOf(planOf(next), 'next-1.0')
      const sources = [
        feed(info),
        feed(nextInfo, planOf(next).root),
        ...streams(info, upstream),
        ...streams(nextInfo, stream('next', next)),
      ]
      const node = await engine(t, { sources, peers: [silent] })
      assert.deepEqual(await whole(node, info), nar)
      assert.deepEqual(upstream.opened, [0])
      assert.equal(node.scores.usable('silent'), false)
      assert.equal(silent.underWay(), 0)
      // Of this one the feed alone has told; its upstream is asked before the silent peer.
      assert.deepEqual(await whole(node, nextInfo), next)
      assert.equal(silent.asked.length, 1)
    },
  )
  it('waits for a slow peer when there is nobody else', { timeout: 20_000 }, async (t) => {
    const silent = peer('silent', blocks, (_, { signal }) => silence(signal))
    const slow = peer('slow', blocks, async (block, { signal }) => {
      await sleep(700, undefined, { signal })
      return block
    })
    const node = await engine(t, { sources: [feed(info)], peers: [silent, slow] })
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.usable('silent'), false)
  })
})

describe('transfer: wrong bytes', () => {
  const lying = (id: string, cost: Cost = COST.neighbour) => stream(id, twin, undefined, { cost })

  it('retries a small NAR from the next source within the same open', async (t) => {
    const liar = stream('liar', flipped(small), undefined, { cost: COST.neighbour })
    const upstream = stream('upstream', small)
    const node = await engine(t, { sources: streams(smallInfo, liar, upstream) })
    await resolved(node, smallInfo)
    await until(() => node.sources.every((one) => (one as TestSource).asked === 1))
    assert.deepEqual(await whole(node, smallInfo), small)
    assert.deepEqual([liar.opened, upstream.opened], [[0], [0]])
    assert.equal(node.scores.all().get('liar')?.lies, 1)
    assert.equal(node.scores.usable('upstream'), true)
    assert.match(errors(node)[0]?.message ?? '', /NAR thrown away: bytes from liar hash to/)
  })
  it('gives out no byte of the last 256 KiB before the hash is proved, and then breaks off', async (t) => {
    let go: () => void = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    // All but the last byte is right.
    const bytes = Uint8Array.from(nar)
    bytes[bytes.length - 1]! ^= 1
    const liar = stream('liar', bytes, (at) => (at === nar.length ? held : undefined))
    const node = await engine(t, { sources: streams(info, liar) })
    const transfer = await node.transfers.open(await resolved(node, info), undefined, options)
    const got: Uint8Array[] = []
    const reading = (async () => {
      for await (const chunk of transfer.read({ start: 0, end: nar.length }, options)) got.push(chunk)
    })()
    const limit = nar.length - HELD_BACK_BYTES
    await until(() => Buffer.concat(got).length === limit)
    await sleep(30)
    assert.equal(Buffer.concat(got).length, limit)
    assert.equal(transfer.verifiedTo, limit)
    go()
    await assert.rejects(reading, NarHashMismatchError)
    assert.equal(Buffer.concat(got).length, limit)
    await ended(node)
    assert.equal(node.spool.has(info.narHash), false)
    assert.equal(existsSync(pathIn(node.dir, info.narHash, true)), false, 'a wrong part is kept')
    assert.equal(node.index.nar(info.narHash), undefined)
  })
  it('holds back the end of a range, too', async (t) => {
    let go: () => void = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    const upstream = stream('upstream', nar, (at) => (at === nar.length ? held : undefined))
    const node = await engine(t, { sources: streams(info, upstream) })
    const found = await resolved(node, info)
    const range = { start: MIB, end: MIB + 100 }
    let opened = false
    const opening = node.transfers.open(found, range, options).then((transfer) => {
      opened = true
      return transfer
    })
    await until(() => node.transfers.running() === 1)
    await sleep(80)
    assert.equal(opened, false)
    go()
    const transfer = await opening
    assert.deepEqual(await collect(transfer.read(range, options)), nar.subarray(MIB, MIB + 100))
  })
  it('does not believe the root of another NAR of the same size', async (t) => {
    const upstream = stream('upstream', nar)
    const peers = [peer('a', blocksOf(nar, twin))]
    const sources = [feed(info, twinPlan.root), ...streams(info, upstream)]
    const node = await engine(t, { sources, peers })
    const found = await resolved(node, info)
    // Nobody reads: nothing has gone out, so the upstream can take over.
    await node.transfers.fetch(found, options)
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(node.badRoots, [twinPlan.root.toString()])
    assert.equal(node.scores.usable('a'), true, 'the peer gave what it was asked for')
    assert.deepEqual(upstream.opened, [0])
  })
  it('never completes a response with the bytes of another NAR, and is right the next time', async (t) => {
    const upstream = stream('upstream', nar)
    const peers = [peer('a', blocksOf(nar, twin), (block) => sleep(20, block))]
    const sources = [feed(info, twinPlan.root), ...streams(info, upstream)]
    const node = await engine(t, { sources, peers })
    await assert.rejects(whole(node, info), NarHashMismatchError)
    assert.deepEqual(node.badRoots, [twinPlan.root.toString()])
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [0])
  })
  it('does not believe the root of a NAR of another size', async (t) => {
    const other = noise(5 * MIB, 'other')
    const root = planOf(other).root
    const upstream = stream('upstream', nar)
    const peers = [peer('a', blocksOf(nar, other))]
    const node = await engine(t, { sources: [feed(info, root), ...streams(info, upstream)], peers })
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(node.badRoots, [root.toString()])
    assert.equal(node.scores.usable('a'), true)
  })
  it('knows the only root that a NAR of one leaf can have', async (t) => {
    const other = noise(small.length, 'other')
    const root = rawCid(sha256(other))
    const upstream = stream('upstream', small)
    const a = peer('a', blocksOf(small, other))
    const sources = [feed(smallInfo, root), ...streams(smallInfo, upstream)]
    const node = await engine(t, { sources, peers: [a] })
    assert.deepEqual(await whole(node, smallInfo), small)
    assert.deepEqual(node.badRoots, [root.toString()])
    assert.equal(a.asked.length, 0)
  })
  it('does not blame the upstream for the first leaves of a wrong root', async (t) => {
    const upstream = stream('upstream', nar)
    // The liar's peers have its first leaves alone, so that the upstream would have to end what they began.
    const some = blocksOf(twin)
    some.delete(rawCid(sha256(twin.subarray(2 * MIB, 3 * MIB))).toString())
    const sources = [feed(info, twinPlan.root), ...streams(info, upstream)]
    const node = await engine(t, { sources, peers: [peer('a', some)] })
    const found = await resolved(node, info)
    await node.transfers.fetch(found, options)
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.all().get('upstream')?.lies, 0)
    assert.deepEqual(upstream.opened, [2 * MIB, 0])
    assert.equal(node.scores.usable(`blocks:${twinPlan.root.toString()}`), false)
  })
  it('does not blame the upstream for what a neighbour began wrongly', async (t) => {
    const liar = stream('liar', twin, diesAt('liar', MIB), { cost: COST.neighbour })
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, liar, upstream) })
    const found = await resolved(node, info)
    await until(() => node.sources.every((one) => (one as TestSource).asked === 1))
    await node.transfers.fetch(found, options)
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.all().get('upstream')?.lies, 0)
    assert.equal(node.scores.all().get('liar')?.lies, 1)
  })
  it('is a clear failure when everybody lies', async (t) => {
    const node = await engine(t, { sources: streams(info, lying('a'), lying('b', COST.upstream)) })
    const found = await resolved(node, info)
    await until(() => node.sources.every((one) => (one as TestSource).asked === 1))
    await assert.rejects(node.transfers.fetch(found, options), /signed is/)
    await ended(node)
    assert.deepEqual(node.spool.totals(), { count: 0, bytes: 0 })
  })
  it('bans a peer that flips a bit, and takes its leaf from another', async (t) => {
    const liar = peer('liar', blocks, (block, { count }) => (count === 2 ? flipped(block) : block))
    const node = await engine(t, { sources: [feed(info)], peers: [liar, peer('good', blocks)] })
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(node.scores.all().get('liar')?.lies, 1)
    assert.deepEqual(node.badRoots, [])
  })
})

describe('transfer: many readers', () => {
  it('serves 64 readers out of one transfer, some slow, some leaving', async (t) => {
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, upstream) })
    const found = await resolved(node, info)
    const results = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        const range = { start: 0, end: nar.length }
        const abort = new AbortController()
        const transfer = await node.transfers.open(found, undefined, { signal: abort.signal })
        if (i % 8 === 1) {
          for await (const _ of transfer.read(range, { signal: abort.signal })) break
          return undefined
        }
        if (i % 8 === 2) {
          abort.abort()
          await assert.rejects(collect(transfer.read(range, { signal: abort.signal })))
          return undefined
        }
        const parts: Uint8Array[] = []
        for await (const chunk of transfer.read(range, options)) {
          parts.push(chunk)
          if (i % 8 === 3) await sleep(5)
        }
        return sha256(Buffer.concat(parts)).toString('hex')
      }),
    )
    const hashes = results.filter((one) => one !== undefined)
    assert.equal(hashes.length, 48)
    assert.deepEqual(new Set(hashes), new Set([sha256(nar).toString('hex')]))
    await ended(node)
    assert.deepEqual(upstream.opened, [0])
  })
  it('fetches a NAR once for 256 who ask for it together', async (t) => {
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, upstream) })
    const found = await resolved(node, info)
    await Promise.all(
      Array.from({ length: 256 }, async () => {
        const transfer = await node.transfers.open(found, undefined, options)
        let length = 0
        const hash = createHash('sha256')
        for await (const bytes of transfer.read({ start: 0, end: nar.length }, options)) {
          length += bytes.length
          hash.update(bytes)
        }
        assert.equal(length, nar.length)
        assert.deepEqual(hash.digest(), Buffer.from(sha256(nar)))
      }),
    )
    await ended(node)
    assert.deepEqual(upstream.opened, [0])
  })
  it('leaves no timer when it fails under its readers', async (t) => {
    const before = timersAlive()
    const upstream = stream('upstream', nar, diesAt('upstream', 2 * MIB))
    const node = await engine(t, { sources: streams(info, upstream) })
    const transfer = await node.transfers.open(await resolved(node, info), undefined, options)
    const reader = transfer.read({ start: 0, end: nar.length }, options)[Symbol.asyncIterator]()
    await reader.next()
    await ended(node)
    await assert.rejects(async () => {
      while ((await reader.next()).done !== true);
    }, NoSourceError)
    assert.equal(timersAlive(), before)
  })
})

describe('transfer: what takes its time', { concurrency: true }, () => {
  it(
    'stops when nobody reads any more, keeps the part, and goes on from there',
    { timeout: 30_000 },
    async (t) => {
      let held = true
      const upstream = stream('upstream', nar, (at, signal) =>
        held && at >= 2 * MIB ? silence(signal) : undefined,
      )
      const node = await engine(t, { sources: streams(info, upstream) })
      const found = await resolved(node, info)
      const transfer = await node.transfers.open(found, undefined, options)
      for await (const _ of transfer.read({ start: 0, end: nar.length }, options)) break
      await assert.rejects(transfer.done, /nobody waits for this NAR any more/)
      await ended(node)
      assert.equal(upstream.underWay(), 0)
      assert.equal(existsSync(pathIn(node.dir, info.narHash, true)), true)
      held = false
      assert.deepEqual(await whole(node, info), nar)
      assert.deepEqual(upstream.opened, [0, 2 * MIB])
    },
  )
  it('leaves a stream that trickles for the next one', { timeout: 30_000 }, async (t) => {
    const trickle = stream('trickle', nar, (_, signal) => sleep(50, undefined, { signal }), {
      cost: COST.neighbour,
      chunk: 1,
    })
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, trickle, upstream) })
    const found = await resolved(node, info)
    await until(() => node.sources.every((one) => (one as TestSource).asked === 1))
    await node.transfers.fetch(found, options)
    assert.deepEqual(await whole(node, info), nar)
    assert.equal(upstream.opened.length, 1)
    assert.ok((upstream.opened[0] ?? 0) > 0)
    assert.equal(node.scores.usable('trickle'), false)
    assert.equal(trickle.underWay(), 0)
  })
  it('is not given up while somebody waits for the whole', { timeout: 30_000 }, async (t) => {
    let go: () => void = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    const upstream = stream('upstream', nar, (at) => (at === 2 * MIB ? held : undefined))
    const node = await engine(t, { sources: streams(info, upstream) })
    const found = await resolved(node, info)
    const fetching = node.transfers.fetch(found, options)
    const transfer = await node.transfers.open(found, undefined, options)
    for await (const _ of transfer.read({ start: 0, end: nar.length }, options)) break
    await sleep(5_200)
    go()
    await fetching
    assert.equal(node.spool.has(info.narHash), true)
  })
  it('lets who waits for the whole leave', async (t) => {
    const upstream = stream('upstream', nar, (_, signal) => silence(signal))
    const node = await engine(t, { sources: streams(info, upstream) })
    const abort = new AbortController()
    const fetching = node.transfers.fetch(await resolved(node, info), { signal: abort.signal })
    await until(() => upstream.underWay() === 1)
    abort.abort(new Error('enough'))
    await assert.rejects(fetching, /enough/)
    await ended(node)
    assert.equal(upstream.underWay(), 0)
  })
  it('makes those wait who are too many', async (t) => {
    let go: () => void = () => {}
    const held = new Promise<void>((resolve) => (go = resolve))
    const list = Array.from({ length: TRANSFERS_MAX_COUNT + 8 }, (_, i) => {
      const bytes = noise(1_000 + i, `many-${i}`)
      return { bytes, told: narInfoOf(planOf(bytes), `many-${i}`) }
    })
    const sources = list.map(({ bytes, told }, i) => {
      const one = stream(`s${i}`, bytes, () => held)
      return tells(one.id, one.cost, { info: told, stream: one })
    })
    const node = await engine(t, { sources })
    const reading = list.map(({ told }) => whole(node, told))
    await until(() => node.transfers.running() === TRANSFERS_MAX_COUNT)
    await sleep(50)
    assert.equal(node.transfers.running(), TRANSFERS_MAX_COUNT)
    go()
    for (const [i, bytes] of (await Promise.all(reading)).entries()) assert.deepEqual(bytes, list[i]?.bytes)
  })
})

describe('transfer: sources that say nothing', () => {
  it('do not keep the NAR from one that has it, however many they are', async (t) => {
    const names = ['neighbour:a/nar', 'neighbour:b/nar', 'neighbour:c/nar', 'neighbour:d/nar']
    const silent = names.map((id) =>
      stream(id, nar, (_, signal) => silence(signal), { cost: COST.neighbour }),
    )
    const upstream = stream('upstream', nar)
    // Ten times as fast as the day.
    const clock = (): number => performance.now() * 10
    const node = await engine(t, { sources: streams(info, ...silent, upstream), clock })
    await node.resolver.askAll(await resolved(node, info), options)
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [0])
    const tried = silent.filter(({ opened }) => opened.length > 0)
    assert.equal(tried.length, STRANGER_WAYS_COUNT)
    assert.ok(tried.every(({ id, underWay }) => underWay() === 0 && !node.scores.trusted(id)))
  })
})

describe('transfer: a kept part', () => {
  /** Leaves the first two leaves of the NAR, or `bytes` instead, as an earlier run would. */
  async function partOf(node: Engine, bytes: Uint8Array): Promise<void> {
    const file = await node.spool.create(info)
    await file.append(bytes)
    await file.abandon(new Error('crash'), true)
  }

  it('is gone on from', async (t) => {
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, upstream) })
    await partOf(node, nar.subarray(0, 2 * MIB))
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [2 * MIB])
    const line = node.log.lines.find(({ message }) => message.startsWith('NAR verified'))
    assert.match(line?.message ?? '', new RegExp(`${2 * MIB} bytes from spool`))
  })
  it('that is whole needs nobody', async (t) => {
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: streams(info, upstream) })
    await partOf(node, nar)
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [])
  })
  it('that has rotted is thrown away, and nobody is blamed', async (t) => {
    const upstream = stream('upstream', nar)
    const node = await engine(t, { sources: [...streams(info, upstream)] })
    await partOf(node, flipped(nar.subarray(0, 2 * MIB)))
    await node.transfers.fetch(await resolved(node, info), options)
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(upstream.opened, [2 * MIB, 0])
    assert.equal(node.scores.usable('upstream'), true)
  })
  it('that has rotted does not condemn a right root', async (t) => {
    const node = await engine(t, { sources: [feed(info)], peers: [peer('a', blocks)] })
    await partOf(node, flipped(nar.subarray(0, 2 * MIB)))
    await node.transfers.fetch(await resolved(node, info), options)
    assert.deepEqual(await whole(node, info), nar)
    assert.deepEqual(node.badRoots, [])
    assert.equal(node.scores.usable(`blocks:${plan.root.toString()}`), true)
  })
  it('that is wrong costs the one who asks no answer', async (t) => {
    const upstream = stream('upstream', nar, () => sleep(1))
    const node = await engine(t, { sources: streams(info, upstream) })
    await partOf(node, flipped(nar.subarray(0, 2 * MIB)))
    assert.deepEqual(await whole(node, info), nar)
  })
  it('is left by peers that fail, for the next run', async (t) => {
    const dying = peer('dying', blocks, (block, { count }) => {
      if (count > 3) throw new SourceFaultError('dying', 'gone')
      return block
    })
    const node = await engine(t, { sources: [feed(info)], peers: [dying] })
    await assert.rejects(whole(node, info), NoSourceError)
    await ended(node)
    assert.equal(existsSync(pathIn(node.dir, info.narHash, true)), true)
    assert.ok(dying.asked.length <= 3 + 4 * SOURCE_MAX_FAULTS_PER_NAR * 2)
  })
})

describe('transfer: when the disk fails', () => {
  it('is a clear failure when no file can be made', async (t) => {
    const node = await engine(t, { sources: streams(info, stream('upstream', nar)) })
    const folder = dirname(pathIn(node.dir, info.narHash))
    await rm(folder, { recursive: true, force: true })
    // A plain file where the folder must be: root, too, cannot write below it.
    await (await open(folder, 'w')).close()
    await assert.rejects(whole(node, info), (error) => {
      assert.ok(error instanceof NoSourceError)
      assert.match(error.message, /spool file/)
      return true
    })
    await ended(node)
    await rm(folder)
    assert.deepEqual(await whole(node, info), nar)
  })
  it('tries no other source when a commit fails, and breaks the response off', async (t) => {
    const first = stream('first', nar)
    const second = stream('second', nar)
    const node = await engine(t, { sources: streams(info, first, second) })
    // The name of the whole file is taken by a folder that is not empty: the rename fails.
    const target = pathIn(node.dir, info.narHash)
    await mkdir(`${target}/in-the-way`, { recursive: true })
    await assert.rejects(node.transfers.fetch(await resolved(node, info), options), /spool file/)
    assert.equal(first.opened.length + second.opened.length, 1)
    assert.equal(node.index.nar(info.narHash), undefined)
    await rm(target, { recursive: true })
    await chmod(node.dir, 0o700)
    assert.deepEqual(await whole(node, info), nar)
  })
})

it('a NAR of exactly one leaf, and of one byte more, come by blocks', async (t) => {
  for (const size of [1, LEAF_BYTES, LEAF_BYTES + 1]) {
    const bytes = noise(size, `size-${size}`)
    const told = narInfoOf(planOf(bytes), `size-${size}`)
    const peers = [peer('a', blocksOf(bytes))]
    const node = await engine(t, { sources: [feed(told, planOf(bytes).root)], peers })
    assert.deepEqual(await whole(node, told), bytes)
    assert.ok(testPolicy.verify(told))
  }
})
