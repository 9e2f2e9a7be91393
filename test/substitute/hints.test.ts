import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { HINT_NAR_MAX_BYTES, HINTS_MAX_BYTES } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST } from '../../src/source.ts'
import type { VerifiedNarInfo } from '../../src/substitute/policy.ts'
import { collect, noise, options, planOf, store } from '../spool/kit.ts'
import { blocksOf, engine, MIB, narInfoOf, peer, stream, tells, until } from './kit.ts'
import type { Engine } from './kit.ts'

const small = noise(HINT_NAR_MAX_BYTES, 'small')
const smallInfo = narInfoOf(planOf(small), 'small-1.0')
const large = noise(3 * MIB, 'large')
const largePlan = planOf(large)
const largeInfo = narInfoOf(largePlan, 'large-1.0')

async function resolved(node: Engine, told: NarInfo): Promise<VerifiedNarInfo> {
  const found = await node.resolver.byHashPart(hashPartOf(told.storePath), options)
  assert.ok(found)
  return found
}

async function whole(node: Engine, info: VerifiedNarInfo): Promise<Buffer> {
  const transfer = await node.transfers.open(info, undefined, options)
  return collect(transfer.read({ start: 0, end: info.narSize }, options))
}

describe('between narinfo and NAR', () => {
  it('a small NAR is fetched, once', async (t) => {
    const upstream = stream('upstream', small)
    const node = await engine(t, {
      sources: [tells('upstream', COST.upstream, { info: smallInfo, stream: upstream })],
    })
    const info = await resolved(node, smallInfo)
    node.transfers.hint(info)
    node.transfers.hint(info)
    await until(() => node.spool.has(info.narHash))
    assert.deepEqual(await whole(node, info), small)
    node.transfers.hint(info)
    await sleep(20)
    assert.deepEqual(upstream.opened, [0])
  })
  it('of a large one the root is fetched, and no leaf', async (t) => {
    const blocks = blocksOf(large)
    const one = peer('one', blocks)
    const node = await engine(t, {
      sources: [tells('feed', COST.local, { info: largeInfo, cid: largePlan.root })],
      peers: [one],
    })
    const info = await resolved(node, largeInfo)
    node.transfers.hint(info)
    await until(() => one.asked.length === 1 && one.underWay() === 0)
    await sleep(20)
    assert.deepEqual(one.asked, [largePlan.root.toString()])
    assert.deepEqual(await whole(node, info), large)
    assert.equal(one.asked.filter((cid) => cid === largePlan.root.toString()).length, 1)
  })
  for (const { line, bytesPerS, opened } of [
    { line: 'quick', bytesPerS: 100_000_000, opened: [0] },
    { line: 'slow', bytesPerS: 5_000_000, opened: [] },
  ]) {
    it(`a large one is fetched over a ${line} line: ${opened.length === 1}`, async (t) => {
      const upstream = stream('upstream', large)
      const node = await engine(t, {
        sources: [tells('upstream', COST.upstream, { info: largeInfo, stream: upstream })],
      })
      node.scores.paced('upstream', bytesPerS, 1_000)
      const info = await resolved(node, largeInfo)
      node.transfers.hint(info)
      if (opened.length > 0) await until(() => node.spool.has(info.narHash))
      else await sleep(50)
      assert.deepEqual(upstream.opened, opened)
    })
  }
  it('the others are asked who has it, where no peer is to be trusted', async (t) => {
    const one = peer('one', blocksOf(large))
    const upstream = stream('upstream', large)
    const told = tells('upstream', COST.upstream, { info: largeInfo, stream: upstream })
    const node = await engine(t, {
      sources: [tells('feed', COST.local, { info: largeInfo, cid: largePlan.root }), told],
      peers: [one],
    })
    const info = await resolved(node, largeInfo)
    assert.equal(told.asked, 0)
    node.scores.faulted('one')
    node.transfers.hint(info)
    await until(() => node.resolver.offer(info).streams.length === 1)
    // Before the NAR moves: on a busy machine that may ask once more, when its first byte is late.
    assert.equal(told.asked, 1)
    assert.deepEqual([one.asked.length, upstream.opened.length], [0, 0])
    assert.deepEqual(await whole(node, info), large)
  })
  it('no more is fetched than the budget allows', async (t) => {
    const many = Array.from({ length: 2 + HINTS_MAX_BYTES / HINT_NAR_MAX_BYTES }, (_, i) => {
      const bytes = noise(HINT_NAR_MAX_BYTES, `many-${i}`)
      return { bytes, told: narInfoOf(planOf(bytes), `many-${i}`), one: stream(`s${i}`, bytes) }
    })
    const node = await engine(t, {
      sources: many.map(({ told, one }) => tells(one.id, COST.upstream, { info: told, stream: one })),
    })
    for (const { told } of many) {
      const info = await resolved(node, told)
      const before = node.spool.totals().count
      node.transfers.hint(info)
      // One after the other: the bound on NARs that move is another one.
      if (before * HINT_NAR_MAX_BYTES < HINTS_MAX_BYTES) await until(() => node.spool.totals().count > before)
    }
    await sleep(50)
    assert.equal(node.spool.totals().bytes, HINTS_MAX_BYTES)
    // Asked for: its part of the budget is free again.
    const [first, , , last] = [many[0], many[1], many[2], many.at(-1)]
    assert.ok(first && last)
    await whole(node, await resolved(node, first.told))
    const info = await resolved(node, last.told)
    node.transfers.hint(info)
    await until(() => node.spool.has(info.narHash))
  })
  it('nothing is done for what is here', async (t) => {
    const upstream = stream('upstream', small)
    const node = await engine(t, {
      sources: [tells('upstream', COST.upstream, { info: smallInfo, stream: upstream })],
    })
    await store(node.spool, small)
    node.transfers.hint(await resolved(node, smallInfo))
    await sleep(20)
    assert.equal(upstream.opened.length, 0)
  })
})
