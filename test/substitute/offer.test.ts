import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nodeCid, sha256 } from '../../src/dag/cid.ts'
import { COST } from '../../src/source.ts'
import { createOffers } from '../../src/substitute/offer.ts'
import { recordingLog } from '../kit/log.ts'
import { noise, planOf } from '../spool/kit.ts'
import { narInfoOf, stream } from './kit.ts'

const bytes = noise(5_000)
const info = narInfoOf(planOf(bytes))
const cid = (n: number) => nodeCid(sha256(Uint8Array.of(n)))

describe('offers', () => {
  it('keep one root of each who tells, the latest, and each root once', () => {
    const offers = createOffers({ log: recordingLog() })
    for (let i = 0; i < 100; i++) offers.add({ info, from: 'liar', cid: cid(i) })
    offers.add({ info, from: 'honest', cid: cid(200) })
    offers.add({ info, from: 'too', cid: cid(200) })
    assert.deepEqual(
      offers.get(info.narHash).roots.map(({ root }) => root.toString()),
      [cid(99).toString(), cid(200).toString()],
    )
    offers.add({ info, from: 'liar' })
    assert.equal(offers.get(info.narHash).roots.length, 2)
  })
  it('do not listen again to a root that was proved wrong, whoever tells it', () => {
    const offers = createOffers({ log: recordingLog() })
    offers.add({ info, from: 'liar', cid: cid(1) })
    offers.add({ info, from: 'honest', cid: cid(2) })
    offers.refuse(info.narHash, cid(1))
    for (const from of ['liar', 'another', 'table']) offers.add({ info, from, cid: cid(1) })
    assert.deepEqual(
      offers.get(info.narHash).roots.map(({ root }) => root.toString()),
      [cid(2).toString()],
    )
  })
  it('keep the latest stream of each source', () => {
    const offers = createOffers({ log: recordingLog() })
    const latest = stream('a', bytes, undefined, { cost: COST.upstream })
    offers.add({ info, from: 'a', stream: stream('a', bytes) })
    offers.add({ info, from: 'b', stream: stream('b', bytes) })
    offers.add({ info, from: 'a', stream: latest })
    assert.deepEqual(
      offers.get(info.narHash).streams.map(({ id }) => id),
      ['b', 'a'],
    )
    assert.equal(offers.get(info.narHash).streams[1], latest)
  })
  it('keep streams in the order of what their caches say of themselves', () => {
    const offers = createOffers({ log: recordingLog() })
    for (const [id, priority] of [['none'], ['far', 40], ['near', 30], ['also near', 30]] as const) {
      const one = stream(id, bytes)
      offers.add({ info, from: id, stream: priority === undefined ? one : { ...one, priority } })
    }
    assert.deepEqual(
      offers.get(info.narHash).streams.map(({ id }) => id),
      ['near', 'also near', 'far', 'none'],
    )
  })
  it('take a CID from the narinfo, and leave one that is none of ours', () => {
    const log = recordingLog()
    const offers = createOffers({ log })
    offers.add({ info: { ...info, cid: 'QmNotOurs' }, from: 'a' })
    assert.deepEqual(offers.get(info.narHash).roots, [])
    assert.match(log.lines[0]?.message ?? '', /CID of a narinfo ignored/)
    offers.add({ info: { ...info, cid: cid(1).toString() }, from: 'a' })
    assert.equal(offers.get(info.narHash).roots.length, 1)
  })
})
