import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { COST } from '../../src/source.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { blocksOf, engine, MIB, narInfoOf, peer, stream, tells, testPolicy, until } from './kit.ts'
import type { Engine } from './kit.ts'

const nar = noise(2 * MIB + 5)
const plan = planOf(nar)
const info = narInfoOf(plan)
const verified = testPolicy.verify(info)
const WHOLE = { start: 0, end: nar.length }

/** @returns what a transfer says of itself when its first byte is there */
async function read(one: Engine, range = WHOLE): Promise<string | undefined> {
  const transfer = await one.transfers.open(verified, range, options)
  const { from } = transfer
  assert.ok((await collect(transfer.read(range, options))).equals(nar.subarray(range.start, range.end)))
  await transfer.done
  await until(() => one.transfers.running() === 0)
  return from
}

describe('a transfer tells where its bytes come from', () => {
  it('an upstream, then the spool, each time that it goes out', async (t) => {
    const upstream = stream('upstream:https://cache.example', nar)
    const one = await engine(t, { sources: [tells(upstream.id, upstream.cost, { info, stream: upstream })] })
    await one.resolver.askAll(verified, options)
    assert.equal(await read(one), upstream.id)
    assert.equal(await read(one), 'spool')
    assert.equal(await read(one, { start: 10, end: 20 }), 'spool')
    assert.deepEqual(
      one.transfers.counts().byKind,
      new Map([
        ['upstream', { bytes: nar.length, nars: 1 }],
        ['spool', { bytes: nar.length + 10, nars: 1 }],
      ]),
    )
  })

  it('blocks, whoever gives them', async (t) => {
    const feed = tells('feed:example.org/main', COST.local, { info, cid: plan.root })
    const one = await engine(t, { sources: [feed], peers: [peer('http:http://10.0.0.2', blocksOf(nar))] })
    await one.resolver.askAll(verified, options)
    assert.equal(await read(one), 'blocks')
    assert.deepEqual(one.transfers.counts().byKind, new Map([['peer', { bytes: nar.length, nars: 1 }]]))
  })

  it('the way that took over from one that broke off', async (t) => {
    const broken = stream(
      'upstream:https://one.example',
      nar,
      (at) => {
        if (at > MIB) throw new Error('gone')
      },
      { cost: COST.peer },
    )
    const next = stream('upstream:https://two.example', nar)
    const one = await engine(t, {
      sources: [broken, next].map((each) => tells(each.id, each.cost, { info, stream: each })),
    })
    await one.resolver.askAll(verified, options)
    const transfer = await one.transfers.open(verified, WHOLE, options)
    await transfer.done
    assert.equal(transfer.from, next.id)
    const { byKind } = one.transfers.counts()
    assert.deepEqual(byKind, new Map([['upstream', { bytes: nar.length, nars: 1 }]]))
  })
})
