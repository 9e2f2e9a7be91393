import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import type { CID } from 'multiformats/cid'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { createLeafBuffers } from '../../src/dag/leaf-buffers.ts'
import type { LeafBuffers } from '../../src/dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { DagError } from '../../src/dag/reader.ts'
import type { DagLink } from '../../src/dag/reader.ts'
import {
  LEAF_IN_FLIGHT_PER_SOURCE_COUNT,
  LEAF_LATE_FLOOR_MS,
  LEAF_SLOW_MS,
  LEAF_WINDOW_COUNT,
  LEAF_WINDOW_START_COUNT,
} from '../../src/limits.ts'
import { COST, SourceFaultError, SourceMissError } from '../../src/source.ts'
import type { BlockSource } from '../../src/source.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { fetchLeaves } from '../../src/substitute/leaf-scheduler.ts'
import type { Leaf } from '../../src/substitute/leaf-scheduler.ts'
import { createRoster } from '../../src/substitute/roster.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { recordingLog } from '../kit/log.ts'
import { flipped, peer, silence, timersAlive, until } from './kit.ts'
import type { Peer } from './kit.ts'

// The scheduler does not care how long leaves are, so that these are short.
const SIZE = 1_000

function leaves(count: number, content: (i: number) => number = (i) => i) {
  const blocks = new Map<string, Uint8Array>()
  const links: DagLink[] = []
  for (let i = 0; i < count; i++) {
    const bytes = new Uint8Array(SIZE).fill(content(i))
    bytes[0] = content(i) >> 8
    const cid = rawCid(sha256(bytes))
    blocks.set(cid.toString(), bytes)
    links.push({ cid, offset: i * SIZE, size: SIZE, depth: 0 })
  }
  return { links, blocks }
}

function scheduling(
  sources: readonly BlockSource[],
  links: readonly DagLink[],
  {
    clock = Date.now,
    areProven = true,
    ...more
  }: { buffers?: LeafBuffers; share?: () => number; clock?: () => number; areProven?: boolean } = {},
) {
  const log = recordingLog()
  const faulted: string[] = []
  const listener = {
    answered: () => {},
    faulted: (id: string, reason = 'in vain') => void faulted.push(`${id}: ${reason}`),
    lied: () => {},
  }
  const scores = createScores({ clock, listener })
  if (areProven) for (const { id } of sources) scores.received(id, LEAF_BYTES)
  const roster = createRoster(sources, { scores, clock, log })
  const abort = new AbortController()
  async function* iterate(): AsyncGenerator<DagLink, void, undefined> {
    yield* links
  }
  return {
    log,
    scores,
    abort,
    faulted,
    run: fetchLeaves(iterate(), roster, { signal: abort.signal, ...more }),
  }
}

function assertWhole(got: readonly Leaf[], links: readonly DagLink[], blocks: Map<string, Uint8Array>): void {
  assert.deepEqual(
    got.map(({ link }) => link.offset),
    links.map(({ offset }) => offset),
  )
  for (const { link, bytes } of got) assert.deepEqual(bytes, blocks.get(link.cid.toString()))
}

const total = (...peers: Peer[]): number => peers.reduce((sum, one) => sum + one.asked.length, 0)

describe('leaf scheduler: order and window', () => {
  it('gives leaves in order whatever the order in which they come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(3), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 3 }),
        async (delays, peers) => {
          const { links, blocks } = leaves(delays.length)
          const sources = Array.from({ length: peers }, (_, i) =>
            peer(`p${i}`, blocks, async (block, { count }) => {
              await sleep(delays[count % delays.length])
              return block
            }),
          )
          const got = await Array.fromAsync(scheduling(sources, links).run)
          assertWhole(got, links, blocks)
          assert.equal(total(...sources), links.length)
        },
      ),
      { numRuns: 25 },
    )
  })
  it('asks for no more than the window ahead of a consumer who waits', async () => {
    const { links, blocks } = leaves(100)
    const [a, b] = [peer('a', blocks), peer('b', blocks)]
    const { run } = scheduling([a, b], links)
    for (let taken = 1; taken <= 5; taken++) {
      await run.next()
      await sleep(20)
      assert.ok(total(a, b) <= LEAF_WINDOW_COUNT + taken - 1, `${total(a, b)} asked after ${taken}`)
    }
    await run.return()
  })
  it('asks a source alone for the whole window, and each of several for a few', async () => {
    const { links, blocks } = leaves(64)
    const alone = peer('alone', blocks)
    await Array.fromAsync(scheduling([alone], links).run)
    assert.equal(alone.mostUnderWay(), LEAF_WINDOW_COUNT)
    const three = ['a', 'b', 'c'].map((id) => peer(id, blocks))
    await Array.fromAsync(scheduling(three, links).run)
    for (const one of three) assert.equal(one.mostUnderWay(), LEAF_IN_FLIGHT_PER_SOURCE_COUNT)
  })
  it('asks a source that has given nothing right yet for one leaf', async () => {
    const { links, blocks } = leaves(64)
    const [liar, honest] = [peer('liar', blocks, (block) => flipped(block)), peer('honest', blocks)]
    const got = await Array.fromAsync(scheduling([liar, honest], links, { areProven: false }).run)
    assertWhole(got, links, blocks)
    assert.equal(liar.asked.length, 1)
    assert.equal(honest.mostUnderWay(), 1)
  })
  it('begins with few leaves at a source that nobody has measured, and goes on with few while it is slow', async () => {
    const { links, blocks } = leaves(12)
    let now = 0
    const slow = peer('slow', blocks, (block) => {
      now += LEAF_SLOW_MS
      return block
    })
    const { run } = scheduling([slow], links, { clock: () => now })
    await Array.fromAsync(run)
    assert.equal(slow.mostUnderWay(), LEAF_WINDOW_START_COUNT)
  })
  it('has no more leaves than its share of what all transfers may have', async () => {
    const { links, blocks } = leaves(40)
    const one = peer('one', blocks)
    let share = 3
    const { run } = scheduling([one], links, { share: () => share })
    for (let i = 0; i < 10; i++) await run.next()
    assert.equal(one.mostUnderWay(), 3)
    share = 5
    await Array.fromAsync(run)
    assert.equal(one.mostUnderWay(), 5)
  })
  it('stripes over three sources and asks for each leaf once', async () => {
    const { links, blocks } = leaves(96)
    const three = ['a', 'b', 'c'].map((id) =>
      peer(id, blocks, async (block) => {
        await sleep(2)
        return block
      }),
    )
    const got = await Array.fromAsync(scheduling(three, links).run)
    assertWhole(got, links, blocks)
    assert.equal(total(...three), 96)
    for (const one of three) assert.ok(one.asked.length >= 16, `${one.id} gave ${one.asked.length}`)
  })
  it('asks for one leaf once, though other sources are idle', async () => {
    const { links, blocks } = leaves(1)
    const three = ['a', 'b', 'c'].map((id) =>
      peer(id, blocks, async (block) => {
        await sleep(30)
        return block
      }),
    )
    await Array.fromAsync(scheduling(three, links).run)
    assert.equal(total(...three), 1)
  })
  it('fetches a leaf that repeats 64 times once', async () => {
    const { links, blocks } = leaves(64, () => 0)
    const [a, b] = [peer('a', blocks), peer('b', blocks)]
    const got = await Array.fromAsync(scheduling([a, b], links).run)
    assertWhole(got, links, blocks)
    assert.equal(total(a, b), 1)
  })
  it('lends its buffers out again only when nobody needs the leaf any more', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(6), { minLength: 20, maxLength: 60 }),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 20 }),
        async (contents, delays) => {
          const { links, blocks } = leaves(contents.length, (i) => contents[i] ?? 0)
          const sources = ['a', 'b'].map((id) =>
            peer(id, blocks, async (block, { count }) => {
              await sleep(delays[count % delays.length])
              return block
            }),
          )
          let at = 0
          for await (const { link, bytes } of scheduling(sources, links, { buffers: createLeafBuffers(4) })
            .run) {
            await sleep(0)
            assert.equal(link.offset, at)
            assert.ok(Buffer.from(bytes).equals(blocks.get(link.cid.toString()) ?? Buffer.alloc(0)))
            at += bytes.length
          }
          assert.equal(at, contents.length * SIZE)
        },
      ),
      { numRuns: 20 },
    )
  })
  it('has a buffer back from a source that misses', async () => {
    const { links, blocks } = leaves(60)
    const miss = peer('here', new Map(), undefined, COST.local)
    const buffers = createLeafBuffers(4)
    const out = new Set<ArrayBufferLike>()
    let most = 0
    const counting: LeafBuffers = {
      size: buffers.size,
      take() {
        const taken = buffers.take()
        most = Math.max(most, out.add(taken.buffer).size)
        return taken
      },
      isLent: (bytes) => buffers.isLent(bytes),
      give(bytes) {
        out.delete(bytes.buffer)
        buffers.give(bytes)
      },
    }
    for await (const leaf of scheduling([miss, peer('a', blocks)], links, { buffers: counting }).run) {
      leaf.release()
    }
    assert.equal(miss.asked.length, links.length)
    assert.equal(out.size, 0)
    assert.ok(most <= LEAF_WINDOW_COUNT + 1, `${most} buffers were out at once`)
  })
  it('does not ask a source that is known to lack a leaf', async () => {
    const { links, blocks } = leaves(20)
    const few = new Map([...blocks].slice(0, 5))
    const here = {
      ...peer('here', few, undefined, COST.local),
      lacks: (cid: CID) => !few.has(cid.toString()),
    }
    const a = peer('a', blocks)
    assertWhole(await Array.fromAsync(scheduling([here, a], links).run), links, blocks)
    assert.deepEqual(here.asked, [...few.keys()])
    assert.equal(a.asked.length, 15)
  })
  it('fails a leaf that all sources are known to lack', async () => {
    const { links } = leaves(2)
    const here = { ...peer('here', new Map(), undefined, COST.local), lacks: () => true }
    await assert.rejects(Array.fromAsync(scheduling([here], links).run), BlockUnavailableError)
    assert.deepEqual(here.asked, [])
  })
  it('asks for a repeated leaf again when its first request fails', async () => {
    const { links, blocks } = leaves(64, () => 0)
    const bad = peer('bad', blocks, () => Promise.reject(new SourceFaultError('bad', 'reset')))
    const good = peer('good', blocks)
    const got = await Array.fromAsync(scheduling([bad, good], links).run)
    assertWhole(got, links, blocks)
    assert.equal(good.asked.length, 1)
  })
})

describe('leaf scheduler: sources that fail', () => {
  it('bans who flips a bit, wastes one leaf on it, and gives right bytes', async () => {
    const { links, blocks } = leaves(64)
    const liar = peer('liar', blocks, (block, { count }) => (count === 3 ? flipped(block) : block))
    const good = peer('good', blocks, async (block) => {
      await sleep(1)
      return block
    })
    const { run, log, scores } = scheduling([liar, good], links)
    const got = await Array.fromAsync(run)
    assertWhole(got, links, blocks)
    assert.equal(total(liar, good), 65)
    assert.ok(liar.asked.length <= 3 + LEAF_IN_FLIGHT_PER_SOURCE_COUNT)
    assert.equal(scores.usable('liar'), false)
    assert.equal(scores.usable('good'), true)
    const warnings = log.lines.filter(({ level }) => level === 'warn')
    assert.deepEqual(
      warnings.map(({ fields }) => fields),
      [{ source: 'liar' }],
    )
    assert.match(warnings[0]?.message ?? '', /gave wrong bytes and is out/)
  })
  const wrong: Record<string, (block: Uint8Array) => Uint8Array> = {
    'a leaf cut by a byte': (block) => block.subarray(1),
    'a leaf with a byte more': (block) => Buffer.concat([block, Uint8Array.of(0)]),
    nothing: () => new Uint8Array(),
    'another leaf of the same NAR': () => new Uint8Array(SIZE).fill(1),
  }
  for (const [title, answer] of Object.entries(wrong)) {
    it(`takes ${title} for a lie`, async () => {
      const { links, blocks } = leaves(20, (i) => i + 5)
      const liar = peer('liar', blocks, answer)
      const { run, scores } = scheduling([liar, peer('good', blocks)], links, { areProven: false })
      assertWhole(await Array.fromAsync(run), links, blocks)
      assert.equal(scores.all().get('liar')?.bytes ?? 0, 0)
      assert.equal(scores.usable('liar'), false)
    })
  }
  it('fails when every source misses, and blames none', async () => {
    const { links } = leaves(20)
    const sources = ['a', 'b'].map((id) => peer(id, new Map()))
    const { run, scores } = scheduling(sources, links)
    await assert.rejects(Array.fromAsync(run), (error) => {
      assert.ok(error instanceof BlockUnavailableError)
      assert.match(error.message, /no source has leaf .* at byte 0: each was asked/)
      return true
    })
    for (const { id } of sources) assert.equal(scores.usable(id), true)
  })
  it('gives what is before the first leaf that nobody has', async () => {
    const { links, blocks } = leaves(20)
    blocks.delete(links[7]?.cid.toString() ?? '')
    const got: Leaf[] = []
    const { run } = scheduling([peer('a', blocks)], links)
    await assert.rejects(async () => {
      for await (const leaf of run) got.push(leaf)
    }, BlockUnavailableError)
    assert.equal(got.length, 7)
  })
  it('asks a source again after a fault', async () => {
    const { links, blocks } = leaves(20)
    const shaky = peer('shaky', blocks, (block, { count }) => {
      if (count === 2 || count === 9) throw new SourceFaultError('shaky', 'reset')
      return block
    })
    assertWhole(await Array.fromAsync(scheduling([shaky], links).run), links, blocks)
  })
  it('counts a lost connection once, though it fails a whole window', async () => {
    const { links, blocks } = leaves(40)
    const shaky = peer('shaky', blocks, (block, { count }) => {
      if (count <= LEAF_WINDOW_COUNT) throw new SourceFaultError('shaky', 'connection lost')
      return block
    })
    const { run, scores } = scheduling([shaky], links)
    scores.delivered('shaky', SIZE, 1)
    assertWhole(await Array.fromAsync(run), links, blocks)
    assert.equal(scores.all().get('shaky')?.faults, 1)
  })
  it('gives up a source that only fails', async () => {
    const { links, blocks } = leaves(40)
    const dead = peer('dead', blocks, () => Promise.reject(new SourceFaultError('dead', 'refused')))
    const { run, log } = scheduling([dead], links)
    await assert.rejects(Array.fromAsync(run), /dead: refused/)
    assert.ok(dead.asked.length <= 4 * LEAF_WINDOW_COUNT)
    assert.ok(log.lines.some(({ message }) => message.includes('source failed and is out for this NAR')))
  })
  it('takes an unforeseen error for a fault and tells it', async () => {
    const { links, blocks } = leaves(20)
    const odd = peer('odd', blocks, () => Promise.reject(new TypeError('x is undefined')))
    const { run, log } = scheduling([odd, peer('good', blocks)], links)
    assertWhole(await Array.fromAsync(run), links, blocks)
    assert.ok(log.lines.some(({ message }) => message.includes('in an unforeseen way: x is undefined')))
  })
  it('finds the only holder of each leaf', async () => {
    const { links, blocks } = leaves(60)
    const parts = ['a', 'b', 'c'].map((id, n) => peer(id, new Map([...blocks].filter((_, i) => i % 3 === n))))
    assertWhole(await Array.fromAsync(scheduling(parts, links).run), links, blocks)
  })
  it('goes on without a source that dies on the way', async () => {
    const { links, blocks } = leaves(60)
    const dying = peer('dying', blocks, (block, { count }) => {
      if (count > 10) throw new SourceFaultError('dying', 'gone')
      return block
    })
    assertWhole(await Array.fromAsync(scheduling([dying, peer('good', blocks)], links).run), links, blocks)
  })
})

describe('leaf scheduler: a root that lies about its leaves', () => {
  it('ends with a DagError and leaves the honest source in honour', async () => {
    const { links, blocks } = leaves(20)
    const last = links.at(-1)
    assert.ok(last)
    const lying = [...links.slice(0, -1), { ...last, size: SIZE - 1 }]
    const { run, scores } = scheduling([peer('honest', blocks)], lying)
    await assert.rejects(Array.fromAsync(run), (error) => {
      assert.ok(error instanceof DagError)
      assert.equal(error.reason, 'leaf-size')
      return true
    })
    assert.equal(scores.usable('honest'), true)
    assert.equal(scores.all().get('honest')?.lies ?? 0, 0)
  })
  it('does not take a twin of another size for the leaf', async () => {
    const { links, blocks } = leaves(2, () => 0)
    const [one, two] = links
    assert.ok(one !== undefined && two !== undefined)
    const got: Leaf[] = []
    const { run } = scheduling([peer('honest', blocks)], [one, { ...two, size: 10 }])
    await assert.rejects(async () => {
      for await (const leaf of run) got.push(leaf)
    }, DagError)
    assert.ok(got.every(({ link, bytes }) => bytes.length === link.size))
  })
  it('never allows a source more than a leaf', async () => {
    const { links } = leaves(1)
    let allowed = 0
    const source: BlockSource = {
      id: 'a',
      cost: 20,
      fetch({ maxBytes }) {
        allowed = maxBytes
        return Promise.reject(new SourceMissError('a', 'no'))
      },
    }
    await assert.rejects(Array.fromAsync(scheduling([source], links).run))
    assert.equal(allowed, LEAF_BYTES)
  })
})

describe('leaf scheduler: slow sources', () => {
  it('asks the next source when one is silent, and remembers it', { timeout: 15_000 }, async () => {
    const { links, blocks } = leaves(24)
    const silent = peer('silent', blocks, (_, { signal }) => silence(signal))
    const slow = peer('slow', blocks, async (block) => {
      await sleep(10)
      return block
    })
    const { run, scores } = scheduling([silent, slow], links)
    // The window is whole from the first leaf on.
    scores.delivered('slow', SIZE, 1)
    assertWhole(await Array.fromAsync(run), links, blocks)
    assert.equal(scores.usable('silent'), false)
    // One stall, not one a window: the silent one is asked no more while the other answers.
    assert.equal(silent.asked.length, LEAF_IN_FLIGHT_PER_SOURCE_COUNT)
    assert.equal(silent.underWay(), 0)
  })
  it('doubles the last leaf when its source is late', { timeout: 15_000 }, async () => {
    const { links, blocks } = leaves(20)
    const lastCid = links.at(-1)?.cid.toString()
    const silent: string[] = []
    let now = 1_000_000
    const one = (id: string): Peer =>
      peer(id, blocks, async (block, { cid, signal }) => {
        if (cid.toString() !== lastCid || silent.length > 0) return block
        silent.push(`${id}: in vain`)
        // A second passes when all others are here.
        void until(() => total(a, b) === 20 && a.underWay() + b.underWay() === 1).then(() => (now += 1_000))
        return silence(signal)
      })
    const [a, b] = [one('a'), one('b')]
    const { run, scores, faulted } = scheduling([a, b], links, { clock: () => now })
    assertWhole(await Array.fromAsync(run), links, blocks)
    assert.equal(total(a, b), 21)
    // Told, and not as a stall: before that timer, and no fault of one that gave before.
    assert.deepEqual(faulted, silent)
    assert.deepEqual([scores.usable('a'), scores.usable('b')], [true, true])
  })
  it('doubles no leaf at a source that failed lately', { timeout: 15_000 }, async () => {
    const { links, blocks } = leaves(4)
    const failed = peer('failed', blocks)
    const late = peer('late', blocks, (block) => sleep(LEAF_LATE_FLOOR_MS + 50, block))
    const { run, scores } = scheduling([failed, late], links)
    scores.faulted('failed')
    assertWhole(await Array.fromAsync(run), links, blocks)
    assert.equal(failed.asked.length, 0)
  })
})

describe('leaf scheduler: the end', () => {
  const slowPeers = (blocks: Map<string, Uint8Array>) =>
    ['a', 'b', 'c'].map((id) =>
      peer(id, blocks, async (block, { count, signal }) => (count === 1 ? block : silence(signal))),
    )
  it('leaves no request and no timer when the consumer stops early', async () => {
    const before = timersAlive()
    const { links, blocks } = leaves(64)
    const peers = slowPeers(blocks)
    for await (const _ of scheduling(peers, links).run) break
    const asked = total(...peers)
    await until(() => peers.every((one) => one.underWay() === 0))
    await sleep(20)
    assert.equal(total(...peers), asked, 'asked for more after the end')
    assert.equal(timersAlive(), before)
  })
  it('leaves no request and no timer when it is aborted', async () => {
    const before = timersAlive()
    const { links, blocks } = leaves(64)
    const peers = slowPeers(blocks)
    const { run, abort, scores } = scheduling(peers, links)
    await run.next()
    const rest = Array.fromAsync(run)
    await sleep(10)
    abort.abort(new Error('client gone'))
    await assert.rejects(rest, /client gone/)
    const asked = total(...peers)
    await until(() => peers.every((one) => one.underWay() === 0))
    await sleep(20)
    assert.equal(total(...peers), asked)
    assert.equal(timersAlive(), before)
    for (const { id } of peers) assert.equal(scores.usable(id), true, 'our own abort is no fault of theirs')
  })
  it('leaves no request when one leaf cannot be had', async () => {
    const { links, blocks } = leaves(64)
    const first = links[0]?.cid.toString()
    const peers = ['a', 'b'].map((id) =>
      peer(id, blocks, (block, { cid, signal }) => {
        if (cid.toString() === first) throw new SourceMissError(id, 'no')
        return sleep(30, block, { signal })
      }),
    )
    await assert.rejects(Array.fromAsync(scheduling(peers, links).run), BlockUnavailableError)
    await until(() => peers.every((one) => one.underWay() === 0))
    const asked = total(...peers)
    await sleep(20)
    assert.equal(total(...peers), asked)
  })
  it('asks nobody when it was aborted before', async () => {
    const { links, blocks } = leaves(4)
    const a = peer('a', blocks)
    const { run, abort } = scheduling([a], links)
    abort.abort(new Error('too late'))
    await assert.rejects(Array.fromAsync(run), /too late/)
    assert.equal(a.asked.length, 0)
  })
  it('passes on what the links throw', async () => {
    async function* links(): AsyncGenerator<DagLink, void, undefined> {
      yield* leaves(3).links
      throw new DagError('file-size', 'hostile')
    }
    const { blocks } = leaves(3)
    const roster = createRoster([peer('a', blocks)], {
      scores: createScores({ clock: Date.now }),
      clock: Date.now,
      log: recordingLog(),
    })
    await assert.rejects(
      Array.fromAsync(fetchLeaves(links(), roster, { signal: new AbortController().signal })),
      DagError,
    )
  })
})
