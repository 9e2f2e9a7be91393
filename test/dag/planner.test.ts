import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sha256 } from '../../src/dag/cid.ts'
import { createPlanner } from '../../src/dag/planner.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { leafCount, leafSize, LEAF_BYTES } from '../../src/dag/profile.ts'
import { narHashDigest } from '../../src/nix/hash.ts'
import { skipWithoutVectors } from '../kit/vectors.ts'
import { createContents, goldenCids } from './golden.ts'

/** The larger goldens are tree.test.ts's: hashing 200 MB twice is all that a unit test may take. */
const MAX_HASHED_BYTES = 11 * 1024 * 1024

function plan(bytes: Uint8Array, cuts: readonly number[]): NarPlan {
  const planner = createPlanner()
  let at = 0
  for (const cut of [...cuts, bytes.length]) {
    planner.update(bytes.subarray(at, cut))
    at = cut
  }
  return planner.finish()
}

test('NarHash and root of the goldens up to 10 MiB', { skip: skipWithoutVectors() }, async (t) => {
  const contents = createContents()
  for (const { content, size, sha256: expected, cid } of goldenCids()) {
    if (size > MAX_HASHED_BYTES) continue
    await t.test(`${content} ${size}`, () => {
      const planner = createPlanner()
      for (let i = 0; i < leafCount(size); i++) {
        planner.update(contents(content, i * LEAF_BYTES, leafSize(size, i)))
      }
      const { narHash, narSize, root, leaves } = planner.finish()
      assert.equal(Buffer.from(narHashDigest(narHash)).toString('hex'), expected)
      assert.equal(narSize, size)
      assert.equal(root.toString(), cid)
      assert.equal(leaves.length, 32 * leafCount(size))
    })
  }
})

test('the plan does not depend on how the bytes are cut', () => {
  const bytes = Buffer.alloc(2 * LEAF_BYTES + 4099)
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(i, Math.min(i, bytes.length - 4))
  const whole = plan(bytes, [])
  assert.deepEqual(Buffer.from(narHashDigest(whole.narHash)), createHash('sha256').update(bytes).digest())
  for (let i = 0; i < 3; i++) {
    const leaf = bytes.subarray(i * LEAF_BYTES, (i + 1) * LEAF_BYTES)
    assert.deepEqual(Buffer.from(whole.leaves.subarray(32 * i, 32 * i + 32)), sha256(leaf))
  }
  const edges = [
    0,
    1,
    LEAF_BYTES - 1,
    LEAF_BYTES,
    LEAF_BYTES + 1,
    2 * LEAF_BYTES - 1,
    2 * LEAF_BYTES,
    bytes.length,
  ]
  const cut = fc.oneof(fc.constantFrom(...edges), fc.integer({ min: 0, max: bytes.length }))
  fc.assert(
    fc.property(fc.array(cut, { maxLength: 6 }), (cuts) => {
      const other = plan(
        bytes,
        cuts.sort((a, b) => a - b),
      )
      assert.equal(other.narHash, whole.narHash)
      assert.deepEqual(other.leaves, whole.leaves)
      assert.ok(other.root.equals(whole.root))
    }),
    { numRuns: 30 },
  )
})

test('up to 1 MiB the root carries the NarHash', async (t) => {
  for (const size of [0, 1, LEAF_BYTES - 1, LEAF_BYTES]) {
    await t.test(`${size} bytes`, () => {
      const { narHash, root, leaves, nodes } = plan(Buffer.alloc(size, 7), [size >> 1])
      assert.deepEqual(root.multihash.digest, narHashDigest(narHash))
      assert.deepEqual(leaves, new Uint8Array(narHashDigest(narHash)))
      assert.deepEqual(nodes, [])
    })
  }
})

for (const size of [5, LEAF_BYTES, LEAF_BYTES + 1, 2 * LEAF_BYTES, 3 * LEAF_BYTES + 7]) {
  test(`${size} bytes in checked leaves give the same plan as in a stream`, () => {
    const bytes = new Uint8Array(size).map((_, i) => i % 251)
    const streamed = createPlanner()
    streamed.update(bytes)
    const planner = createPlanner()
    for (let at = 0; at < size; at += LEAF_BYTES) {
      const leaf = bytes.subarray(at, at + LEAF_BYTES)
      planner.addLeaf(leaf, createHash('sha256').update(leaf).digest())
    }
    assert.deepEqual(planner.finish(), streamed.finish())
  })
}

test('a checked leaf cannot follow half a leaf', () => {
  const planner = createPlanner()
  planner.update(new Uint8Array(10))
  assert.throws(() => planner.addLeaf(new Uint8Array(10), new Uint8Array(32)), RangeError)
})
