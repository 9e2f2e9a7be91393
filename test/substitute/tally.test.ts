import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createTally } from '../../src/substitute/tally.ts'

it('tally: blocks and NARs of a neighbour are added up, what was on disk is not counted', () => {
  const tally = createTally()
  tally.add(
    new Map([
      ['spool', 1_000],
      ['neighbour:one', 10],
      ['neighbour:one/nar', 5],
      ['upstream:https://cache.nixos.org', 7],
    ]),
  )
  tally.add(
    new Map([
      ['neighbour:http://10.0.0.2:6278/nar', 3],
      ['bitswap:12D3', 2],
    ]),
  )
  assert.deepEqual(tally.total(), {
    all: 27,
    fromUpstreams: 7,
    fromNeighbours: 18,
    byNeighbour: new Map([
      ['neighbour:http://10.0.0.2:6278', 3],
      ['neighbour:one', 15],
    ]),
  })
})
