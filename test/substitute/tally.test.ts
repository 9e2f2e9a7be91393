import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sourceKind } from '../../src/source.ts'
import type { SourceId, SourceKind } from '../../src/source.ts'
import { createTally } from '../../src/substitute/tally.ts'

const KINDS: [id: SourceId, kind: SourceKind][] = [
  ['spool', 'spool'],
  ['rewritten', 'rewritten'],
  ['local', 'local'],
  ['upstream:https://cache.nixos.org', 'upstream'],
  ['neighbour:12D3KooWPeer/nar', 'neighbour'],
  ['http:http://10.0.0.2:6278', 'peer'],
  ['bitswap:12D3KooWPeer', 'swarm'],
]
for (const [id, kind] of KINDS) {
  it(`${id} is of kind ${kind}`, () => assert.equal(sourceKind(id), kind))
}

describe('the tally', () => {
  it('counts bytes by kind, and a NAR where most of it came from', () => {
    const tally = createTally()
    tally.came(
      new Map([
        ['neighbour:a', 5],
        ['upstream:https://one.example', 2],
        ['upstream:https://two.example', 4],
      ]),
      true,
    )
    tally.came(new Map([['rewritten', 7]]), true)
    assert.deepEqual(
      tally.total().byKind,
      new Map([
        ['upstream', { bytes: 6, nars: 1 }],
        ['neighbour', { bytes: 5, nars: 0 }],
        ['rewritten', { bytes: 7, nars: 1 }],
      ]),
    )
  })

  it('counts what came of a NAR that broke off, and what an earlier run left no second time', () => {
    const tally = createTally()
    tally.came(new Map([['upstream:https://one.example', 5]]), false)
    tally.came(
      new Map([
        ['spool', 5],
        ['upstream:https://one.example', 9],
      ]),
      true,
    )
    assert.deepEqual(tally.total().byKind, new Map([['upstream', { bytes: 14, nars: 1 }]]))
  })

  it('counts what goes out as it lies here each time', () => {
    const tally = createTally()
    tally.wentOut('store', 10, true)
    tally.wentOut('store', 4, false)
    assert.deepEqual(tally.total().byKind, new Map([['store', { bytes: 14, nars: 1 }]]))
  })

  it("adds a neighbour's blocks and whole NARs", () => {
    const tally = createTally()
    tally.came(new Map([['neighbour:a', 1]]), true)
    tally.came(new Map([['neighbour:a/nar', 2]]), true)
    assert.deepEqual(tally.total().byNeighbour, new Map([['neighbour:a', 3]]))
  })
})
