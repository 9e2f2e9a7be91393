import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Use } from '../../src/spool/in-use.ts'
import { chooseVictims, type Holding } from '../../src/spool/victims.ts'
import { planOf } from './kit.ts'

const hashes = Array.from({ length: 12 }, (_, n) => planOf(Buffer.from(`nar ${n}`)).narHash)

const arbitrary = fc
  .record({
    sizes: fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 100 }), isPart: fc.boolean() }), {
      maxLength: 12,
    }),
    uses: fc.array(fc.constantFrom<Use>('idle', 'recent', 'open'), { minLength: 12, maxLength: 12 }),
    maxBytes: fc.integer({ min: 0, max: 120 }),
    overQuota: fc.integer({ min: -50, max: 400 }),
    shortOfSpace: fc.integer({ min: -50, max: 400 }),
    hard: fc.boolean(),
  })
  .map(({ sizes, uses, hard, ...need }) => {
    const holdings = sizes.map(({ bytes, isPart }, n): Holding => {
      return { kind: isPart ? 'part' : 'nar', narHash: hashes[n] ?? assert.fail(), bytes }
    })
    const useOf = new Map(hashes.map((hash, n) => [hash, uses[n] ?? 'idle']))
    return { holdings, need, hard, use: (hash: Holding['narHash']): Use => useOf.get(hash) ?? 'idle' }
  })

test('who goes: never what is open, each once, no more than needed, the least recently used first', () => {
  fc.assert(
    fc.property(arbitrary, ({ holdings, need, hard, use }) => {
      const victims = chooseVictims(holdings, need, use, hard)
      const gone = new Set(victims)
      assert.equal(gone.size, victims.length)
      const tooLarge = ({ bytes }: Holding): boolean => bytes > need.maxBytes
      const may = (one: Holding): boolean =>
        use(one.narHash) === 'idle' || (hard && use(one.narHash) === 'recent')
      assert.ok(victims.every(may))
      // What can never stay goes, whatever the need.
      for (const one of holdings) if (tooLarge(one) && use(one.narHash) === 'idle') assert.ok(gone.has(one))

      const freed = (of: readonly Holding[]): number => of.reduce((sum, one) => sum + one.bytes, 0)
      const isMet = (of: readonly Holding[]): boolean =>
        freed(of.filter((one) => !tooLarge(one))) >= need.overQuota && freed(of) >= need.shortOfSpace
      // Unmet only when nothing is left that would help.
      if (!isMet(victims)) {
        const left = holdings.filter((one) => may(one) && !gone.has(one))
        assert.ok(left.every((one) => tooLarge(one) && freed(victims) >= need.shortOfSpace))
      }
      // Without the last one that was not too large anyway, need was not met.
      const last = victims.findLast((one) => !tooLarge(one))
      if (last !== undefined) assert.ok(!isMet(victims.slice(0, victims.lastIndexOf(last))))
      // Among the idle ones that can stay, a victim is older than all that stay.
      const line = holdings.filter((one) => !tooLarge(one) && use(one.narHash) === 'idle')
      const firstStaying = line.findIndex((one) => !gone.has(one))
      assert.ok(firstStaying < 0 || line.slice(firstStaying).every((one) => !gone.has(one)))
    }),
    { numRuns: 2_000 },
  )
})
