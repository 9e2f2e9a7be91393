/** A NAR that comes slowly from an upstream, and a relay that is asked for the rest of it. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { RELAY_MIN_BYTES } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError } from '../../src/source.ts'
import type { CallOptions } from '../../src/source.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import type { RelayFinder } from '../../src/swarm/relay-finder.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { blocksOf, engine, MIB, narInfoOf, peer, silence, stream, tells, until } from './kit.ts'
import type { Peer } from './kit.ts'

const SIZE = 14 * MIB + 100
/** What the upstream gives before it becomes slow. */
const QUICK = 2.5 * MIB
const newer = noise(SIZE, 'newer')
const older = noise(SIZE, 'older')
const RELAY = 'neighbour:relay'
const root = planOf(newer).root

interface Parts {
  readonly bytes?: Uint8Array
  readonly find?: RelayFinder['find']
  readonly answer?: Parameters<typeof peer>[2]
  /** What the upstream gives. */
  readonly upstream?: Uint8Array
  readonly relays?: readonly string[]
  /** Undefined: nothing older is here. */
  readonly old?: Uint8Array | undefined
  /** What a second one gives. */
  readonly others?: Uint8Array
  /** A feed told the root. */
  readonly isFed?: boolean
}

const told: RelayFinder['find'] = () => Promise.resolve({ root, told: RELAY })

async function world(t: TestContext, parts: Parts = {}) {
  const { bytes = newer, find = told, answer, relays = [RELAY], upstream = bytes } = parts
  const old = 'old' in parts ? parts.old : older
  const info = narInfoOf(planOf(bytes), 'program-1.1')
  const oldInfo = old && narInfoOf(planOf(old), 'program-1.0')
  const gate = Promise.withResolvers<void>()
  let isOpen = false
  const slow = stream('upstream:slow', upstream, async (at, signal) => {
    if (at < QUICK || isOpen) return
    await Promise.race([sleep(100, undefined, { signal, ref: false }), gate.promise])
  })
  const sources = [tells(slow.id, COST.upstream, { info, stream: slow })]
  if (parts.others !== undefined) {
    const second = stream('upstream:second', parts.others)
    sources.push(tells(second.id, COST.upstream, { info, stream: second }))
  }
  if (parts.isFed === true) sources.push(tells('feed:main', COST.local, { info, cid: root }))
  const asked: { wanted: string; older: string; signal: AbortSignal }[] = []
  const blocks: Peer = peer(RELAY, blocksOf(bytes, older), answer, COST.peer)
  const node = await engine(t, {
    sources,
    peers: [blocks],
    older: oldInfo === undefined ? [] : [oldInfo],
    relays: {
      relays: () => relays,
      find(wanted, oldPath, inner) {
        asked.push({ wanted: wanted.storePath, older: oldPath, signal: inner.signal })
        return find(wanted, oldPath, inner)
      },
    },
  })
  if (old !== undefined) node.index.put(planOf(old), { shared: true, inSpool: true })
  const found = (await node.resolver.byHashPart(hashPartOf(info.storePath), options)) as VerifiedNarInfo
  const open = (): void => {
    isOpen = true
    gate.resolve()
  }
  return {
    ...node,
    info,
    oldInfo: oldInfo as NarInfo,
    slow,
    asked,
    blocks,
    open,
    async read(): Promise<Buffer> {
      const transfer = await node.transfers.open(found, undefined, options)
      return collect(transfer.read({ start: 0, end: SIZE }, options))
    },
    fetch: () => node.transfers.fetch(found, options),
  }
}

const leavesAsked = ({ asked }: Peer): number => asked.filter((cid) => cid.startsWith('bafkrei')).length

describe('a relay', () => {
  it('takes over at the byte where the upstream is, which is not at fault', async (t) => {
    const it = await world(t)
    assert.deepEqual(await it.read(), newer)
    assert.deepEqual(
      it.asked.map((one) => [one.wanted, one.older]),
      [[it.info.storePath, it.oldInfo.storePath]],
    )
    assert.deepEqual(it.slow.opened, [0])
    assert.ok(it.scores.trusted(it.slow.id))
    // The leaves before that have come.
    assert.ok(leavesAsked(it.blocks) <= Math.ceil((SIZE - QUICK) / LEAF_BYTES) + 1)
    const { byKind } = it.transfers.counts()
    assert.ok((byKind.get('neighbour')?.bytes ?? 0) > SIZE - QUICK - 2 * MIB)
    assert.equal(it.slow.underWay(), 0)
  })

  it('that dies is replaced at that byte, by the upstream that it took over from', async (t) => {
    let given = 0
    const it = await world(t, {
      answer(block) {
        if (block.length === LEAF_BYTES && ++given > 4) throw new SourceFaultError(RELAY, 'gone')
        return block
      },
    })
    const read = it.read()
    await until(() => given > 4)
    it.open()
    assert.deepEqual(await read, newer)
    assert.equal(it.slow.opened[0], 0)
    assert.equal(it.slow.opened.length, 2)
    assert.ok((it.slow.opened[1] ?? 0) >= QUICK)
    // At once: nobody was asked anew who has it.
    assert.equal((it.sources[0] as ReturnType<typeof tells>).asked, 1)
    assert.deepEqual(it.badRoots, [])
  })

  it('that tells the root of another NAR is found out before any leaf of it is asked for, and blamed', async (t) => {
    const wrong = planOf(older).root
    const it = await world(t, { find: () => Promise.resolve({ root: wrong, told: RELAY }) })
    const read = it.read()
    await until(() => it.log.lines.some(({ message }) => /not the one that is here/.test(message)))
    it.open()
    assert.deepEqual(await read, newer)
    assert.deepEqual(it.slow.opened, [0])
    assert.equal(leavesAsked(it.blocks), 0)
    assert.deepEqual(it.badRoots, [wrong.toString()])
  })

  it('whose root does not fit what a lying upstream gave is not blamed', async (t) => {
    const wrong = Uint8Array.from(newer)
    wrong[MIB + 5]! ^= 1
    const it = await world(t, { upstream: wrong, others: newer })
    const fetched = it.fetch()
    await until(() => it.log.lines.some(({ message }) => /not the one that is here/.test(message)))
    it.open()
    await fetched
    assert.deepEqual(it.badRoots, [])
  })

  it('that gives no leaf changes nothing', async (t) => {
    let isAsked = false
    const it = await world(t, {
      answer(block, { signal }) {
        if (block.length < LEAF_BYTES) return block
        isAsked = true
        return silence(signal)
      },
    })
    const read = it.read()
    await until(() => isAsked)
    it.open()
    assert.deepEqual(await read, newer)
    assert.deepEqual(it.slow.opened, [0])
    assert.equal(it.blocks.underWay(), 0)
  })

  it('that never answers changes nothing, and is not waited for', async (t) => {
    const find = (_: unknown, __: unknown, { signal }: CallOptions): Promise<never> => silence(signal)
    const it = await world(t, { find })
    const read = it.read()
    await until(() => it.asked.length === 1)
    it.open()
    assert.deepEqual(await read, newer)
    await until(() => it.asked[0]?.signal.aborted === true)
    assert.deepEqual(it.slow.opened, [0])
  })

  const NOT_USED: Record<string, Parts> = {
    'that says no': { find: () => Promise.resolve(undefined) },
    'that throws': { find: () => Promise.reject(new Error('what nobody foresaw')) },
  }
  for (const [which, parts] of Object.entries(NOT_USED)) {
    it(`${which} is asked once, and not used`, async (t) => {
      const it = await world(t, parts)
      const read = it.read()
      await until(() => it.asked.length === 1)
      it.open()
      assert.deepEqual(await read, newer)
      assert.deepEqual([it.slow.opened, it.blocks.asked], [[0], []])
    })
  }

  const NOT_ASKED: Record<string, Parts> = {
    'when there is none': { relays: [] },
    'when nothing older is here': { old: undefined },
    'about a small NAR': { bytes: newer.subarray(0, RELAY_MIN_BYTES - 1) },
  }
  for (const [when, parts] of Object.entries(NOT_ASKED)) {
    it(`is not asked ${when}`, async (t) => {
      const it = await world(t, parts)
      const fetched = it.fetch()
      await sleep(700)
      it.open()
      await fetched
      assert.deepEqual(it.asked, [])
    })
  }

  it('is not asked when the upstream is quick', async (t) => {
    const it = await world(t)
    it.open()
    assert.deepEqual(await it.read(), newer)
    assert.deepEqual(it.asked, [])
  })

  it('that answers when little is left is not used', async (t) => {
    const answer = Promise.withResolvers<Awaited<ReturnType<RelayFinder['find']>>>()
    const it = await world(t, { find: () => answer.promise })
    const read = it.read()
    await until(() => it.asked.length === 1)
    it.open()
    await until(() => it.slow.underWay() === 0)
    answer.resolve({ root, told: RELAY })
    assert.deepEqual(await read, newer)
    assert.deepEqual(it.blocks.asked, [])
  })
})

it('what a relay fetches for others comes from upstreams alone', async (t) => {
  const it = await world(t, { isFed: true })
  const found = (await it.resolver.byHashPart(hashPartOf(it.info.storePath), options)) as VerifiedNarInfo
  const fetched = it.transfers.fetchUpstream(found, options)
  await until(() => it.slow.underWay() > 0)
  assert.equal(it.transfers.underWay.get(it.info.narHash), undefined, 'nobody reads it along')
  it.open()
  await fetched
  assert.deepEqual([it.asked, it.blocks.asked], [[], []])
  assert.ok(it.spool.has(it.info.narHash))
})
