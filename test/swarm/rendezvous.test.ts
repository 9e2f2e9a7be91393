import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import type { NarHash } from '../../src/nix/hash.ts'
import { rendezvousOrder } from '../../src/swarm/rendezvous.ts'

const narHash = (n: number): NarHash => hash('sha256', String(n)).slice(0, 52) as NarHash
const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `narswarm:12D3Koo${i}`)

const someIds = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 20 }), { minLength: 2, maxLength: 12 })

describe('rendezvous order', () => {
  it('is the same for all, in whatever order they know each other', () => {
    fc.assert(
      fc.property(someIds, fc.nat(), (names, n) => {
        const order = rendezvousOrder(narHash(n), names)
        assert.deepEqual(rendezvousOrder(narHash(n), names.toReversed()), order)
        assert.deepEqual(order.toSorted(), names.toSorted())
      }),
    )
  })
  it('of those who stay is what it was when one leaves', () => {
    fc.assert(
      fc.property(someIds, fc.nat(), fc.nat(), (names, n, k) => {
        const gone = names[k % names.length]
        const rest = names.filter((name) => name !== gone)
        const order = rendezvousOrder(narHash(n), names)
        assert.deepEqual(
          rendezvousOrder(narHash(n), rest),
          order.filter((name) => name !== gone),
        )
      }),
    )
  })
  it('puts each first about as often', () => {
    const names = ids(5)
    const firsts = new Map(names.map((name) => [name, 0]))
    for (let n = 0; n < 5_000; n++) {
      const [first = ''] = rendezvousOrder(narHash(n), names)
      firsts.set(first, (firsts.get(first) ?? 0) + 1)
    }
    for (const [name, count] of firsts) assert.ok(count > 900 && count < 1_100, `${name}: ${count} of 5000`)
  })
  it('is by sha256 of "<NarHash> <id>", highest first', () => {
    // printf '%s %s' 000…0 narswarm:12D3Koo0 | sha256sum, and so on
    assert.deepEqual(
      rendezvousOrder('0'.repeat(52) as NarHash, ids(4)),
      [2, 3, 0, 1].map((i) => `narswarm:12D3Koo${i}`),
    )
  })
})
