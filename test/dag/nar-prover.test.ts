import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { sha256 } from '../../src/dag/cid.ts'
import { createNarProver } from '../../src/dag/nar-prover.ts'
import { createPlanner } from '../../src/dag/planner.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'

const bytes = randomBytes(2 * LEAF_BYTES + 4099)

function planned(part: Uint8Array): NarPlan {
  const planner = createPlanner()
  planner.update(part)
  return planner.finish()
}

for (const size of [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, bytes.length]) {
  const part = bytes.subarray(0, size)

  test(`${size} bytes by checked leaves: the NarHash, and the plan of the planner`, () => {
    const prover = createNarProver('given')
    for (let at = 0; at < size; at += LEAF_BYTES) {
      const leaf = part.subarray(at, at + LEAF_BYTES)
      prover.addLeaf(leaf, sha256(leaf))
    }
    assert.deepEqual(prover.finish(), { narHash: planned(part).narHash, plan: planned(part) })
  })

  test(`${size} bytes of a stream: the NarHash, and a plan only of a single block`, () => {
    const prover = createNarProver('given')
    for (let at = 0; at < size; at += 70_001) prover.update(part.subarray(at, at + 70_001))
    const { narHash, plan } = prover.finish()
    assert.equal(narHash, planned(part).narHash)
    assert.deepEqual(plan, size <= LEAF_BYTES ? planned(part) : undefined)
  })
}

test('with the leaves hashed too there is always a plan', () => {
  const prover = createNarProver('hashed')
  prover.update(bytes)
  assert.deepEqual(prover.finish(), { narHash: planned(bytes).narHash, plan: planned(bytes) })
})

test('one piece without a digest, and there is no plan', () => {
  const prover = createNarProver('given')
  prover.update(bytes.subarray(0, LEAF_BYTES))
  prover.addLeaf(
    bytes.subarray(LEAF_BYTES, 2 * LEAF_BYTES),
    sha256(bytes.subarray(LEAF_BYTES, 2 * LEAF_BYTES)),
  )
  prover.update(bytes.subarray(2 * LEAF_BYTES))
  const { narHash, plan } = prover.finish()
  assert.equal(narHash, planned(bytes).narHash)
  assert.equal(plan, undefined)
})

test('a leaf in the middle of another one is refused', () => {
  const prover = createNarProver('given')
  prover.update(bytes.subarray(0, 10))
  assert.throws(() => prover.addLeaf(bytes.subarray(0, LEAF_BYTES), sha256(bytes)), RangeError)
})
