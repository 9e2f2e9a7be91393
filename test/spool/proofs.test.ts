import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { PROOF_MAX_AGE_MS, PROOF_SETTLED_COARSE_MS, PROOF_SETTLED_MS } from '../../src/limits.ts'
import { createProofs } from '../../src/spool/proofs.ts'

const NOW = 1_700_000_000_000
const leaf = { narSize: 3 * LEAF_BYTES, offset: LEAF_BYTES }
const other = { narSize: 3 * LEAF_BYTES, offset: 2 * LEAF_BYTES }
const stamp = { mark: 'a', changedMs: NOW - 86_400_000 }

function bench() {
  const time = { now: NOW }
  return { time, proofs: createProofs({ clock: () => time.now }) }
}

test('a leaf that was hashed is known, for the same files unchanged', () => {
  const { proofs } = bench()
  assert.equal(proofs.has('x', leaf, stamp), false)
  proofs.add('x', leaf, stamp)
  assert.equal(proofs.has('x', leaf, stamp), true)
  assert.equal(proofs.has('x', other, stamp), false)
  assert.equal(proofs.has('y', leaf, stamp), false)
  assert.equal(proofs.has('x', leaf, { ...stamp, mark: 'b' }), false)
})

test('after a change the leaf is known again once it was hashed again', () => {
  const { proofs } = bench()
  proofs.add('x', leaf, stamp)
  proofs.add('x', other, stamp)
  const changed = { ...stamp, mark: 'b' }
  proofs.add('x', leaf, changed)
  assert.equal(proofs.has('x', leaf, changed), true)
  assert.equal(proofs.has('x', leaf, stamp), false)
  assert.equal(proofs.has('x', other, stamp), true)
})

test('a file that has just changed proves nothing', () => {
  const { proofs } = bench()
  proofs.add('x', leaf, { mark: 'a', changedMs: NOW - PROOF_SETTLED_MS + 1.5 })
  assert.equal(proofs.has('x', leaf, { mark: 'a', changedMs: NOW - PROOF_SETTLED_MS + 1.5 }), false)
  const whole = { mark: 'b', changedMs: NOW - PROOF_SETTLED_COARSE_MS + 1000 }
  proofs.add('x', leaf, whole)
  assert.equal(
    proofs.has('x', leaf, whole),
    false,
    'it may be of a file system that knows whole seconds only',
  )
  const settled = { mark: 'a', changedMs: NOW - PROOF_SETTLED_MS - 0.5 }
  proofs.add('x', leaf, settled)
  assert.equal(proofs.has('x', leaf, settled), true)
})

test('what was hashed long ago is hashed again', () => {
  const { proofs, time } = bench()
  proofs.add('x', leaf, stamp)
  time.now += PROOF_MAX_AGE_MS - 1
  assert.equal(proofs.has('x', leaf, stamp), true)
  time.now += 2
  assert.equal(proofs.has('x', leaf, stamp), false)
})

test('with too many changes nothing is known rather than too much', () => {
  const { proofs } = bench()
  for (let i = 0; i < 300; i++) proofs.add('x', leaf, { ...stamp, mark: `${i}` })
  for (let i = 0; i < 300; i++) assert.equal(proofs.has('x', leaf, { ...stamp, mark: `${i}` }), false)
})

test('leaves in a row are alike as long as they lay in the same files', () => {
  const { proofs } = bench()
  const narSize = 6 * LEAF_BYTES
  const at = (index: number) => ({ narSize, offset: index * LEAF_BYTES })
  const marks = [undefined, 'a', 'a', 'b', 'b', 'b']
  for (const [index, mark] of marks.entries()) {
    if (mark !== undefined) proofs.add('x', at(index), { ...stamp, mark })
  }
  const alike = (index: number, atMost: number) => proofs.alike('x', at(index), atMost)
  assert.equal(alike(0, 4), 0)
  assert.equal(alike(1, 4), 2)
  assert.equal(alike(1, 1), 1)
  assert.equal(alike(3, 9), 3, 'the NAR ends there')
  assert.equal(proofs.alike('y', at(1), 4), 0)
})
