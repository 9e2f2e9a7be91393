import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { PACE_FACTOR, STRANGER_WAYS_COUNT } from '../../src/limits.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST } from '../../src/source.ts'
import type { NarInfoSource, StreamSource } from '../../src/source.ts'
import { createWayQueue } from '../../src/substitute/way-queue.ts'
import { findWays, wayId } from '../../src/substitute/ways.ts'
import type { Way } from '../../src/substitute/ways.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { blocksOf, engine, MIB, narInfoOf, peer, stream, tells } from './kit.ts'

const nar = noise(2 * MIB)
const plan = planOf(nar)
const info = narInfoOf(plan)
const BLOCKS = `blocks:${plan.root.toString()}`

const upstream = (id: string): StreamSource => stream(id, nar)
const offers = (source: StreamSource): NarInfoSource =>
  tells(source.id, source.cost, { info, stream: source })
const feed = tells('feed', COST.local, { info, cid: plan.root })

async function finding(t: Parameters<typeof engine>[0], sources: NarInfoSource[]) {
  const peers = [peer('peer', blocksOf(nar))]
  const node = await engine(t, { sources, peers })
  const found = await node.resolver.byHashPart(hashPartOf(info.storePath), options)
  assert.ok(found)
  const ways = (): AsyncGenerator<Way, void, undefined> =>
    findWays(found, { resolver: node.resolver, scores: node.scores, blockSources: peers }, options)
  const all = async (): Promise<string[]> => (await Array.fromAsync(ways())).map(wayId)
  return { ...node, found, ways, all }
}

describe('ways', () => {
  it('come as they are told: a silent source does not keep what another has', async (t) => {
    const { promise: never } = Promise.withResolvers<undefined>()
    const silent = tells('silent', COST.upstream, () => never)
    const { ways } = await finding(t, [feed, silent, offers(upstream('up'))])
    const found = ways()
    const first = await found.next()
    const second = await found.next()
    assert.deepEqual(
      [first.value, second.value].map((way) => way && wayId(way)),
      [BLOCKS, 'up'],
    )
  })
  it('of strangers are no more than a few before an upstream, however many tell one', async (t) => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `neighbour:${name}`)
    const near = names.map((id) => stream(`${id}/nar`, nar, undefined, { cost: COST.neighbour }))
    const told = near.map((one, i) => tells(names[i] ?? '', COST.neighbour, { info, stream: one }))
    const late = tells('up', COST.upstream, async () => {
      await setTimeout(20)
      return { info, stream: upstream('up') }
    })
    const { all } = await finding(t, [...told, late])
    const ids = await all()
    assert.equal(ids.length, names.length + 1)
    assert.equal(ids.indexOf('up'), STRANGER_WAYS_COUNT)
  })
  it('put streams before peers that failed, until those have answered again', async (t) => {
    const { scores, all } = await finding(t, [feed, offers(upstream('up'))])
    assert.deepEqual(await all(), [BLOCKS, 'up'])
    scores.faulted('peer')
    assert.deepEqual(await all(), ['up', BLOCKS])
    scores.answered('peer')
    assert.deepEqual(await all(), [BLOCKS, 'up'])
  })
  it('put an upstream that is many times faster before slow peers', async (t) => {
    const { resolver, found, scores, all } = await finding(t, [feed, offers(upstream('up'))])
    await resolver.askAll(found, options)
    scores.paced('blocks', MIB, 1_000)
    scores.paced('up', (PACE_FACTOR - 1) * MIB, 1_000)
    assert.deepEqual(await all(), [BLOCKS, 'up'])
    for (let i = 0; i < 20; i++) scores.paced('up', (PACE_FACTOR + 1) * MIB, 1_000)
    assert.deepEqual(await all(), ['up', BLOCKS])
  })
  it('put the faster of two upstreams first, and the one that failed last', async (t) => {
    const list = ['a', 'b', 'c'].map(upstream)
    const { resolver, found, scores, all } = await finding(t, list.map(offers))
    await resolver.askAll(found, options)
    scores.paced('a', 5 * MIB, 1_000)
    scores.paced('b', 9 * MIB, 1_000)
    scores.paced('c', 8 * MIB, 1_000)
    assert.deepEqual(await all(), ['b', 'c', 'a'])
    scores.faulted('b')
    assert.deepEqual(await all(), ['c', 'a', 'b'])
  })
})

describe('way queue', () => {
  it('gives each way once, what was given back first, what was put off last, and nothing that nobody wants', async () => {
    const [a, b, c] = ['a', 'b', 'c'].map((id): Way => ({ kind: 'stream', source: upstream(id) }))
    assert.ok(a && b && c)
    async function* ways(): AsyncGenerator<Way, void, undefined> {
      if (a && b && c) yield* [a, b, c]
    }
    const unwanted = new Set<Way>()
    const queue = createWayQueue(ways(), (way) => unwanted.has(way))
    assert.equal(await queue.take(), a)
    queue.giveBack(a)
    assert.equal(await queue.take(), a)
    queue.putOff(a)
    unwanted.add(b)
    assert.equal(await queue.take(), c)
    assert.equal(await queue.take(), a)
    queue.giveBack(b)
    assert.equal(await queue.take(), undefined)
  })
})
