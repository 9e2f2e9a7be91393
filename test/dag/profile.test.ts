import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leafCount, leafSize, LEAF_BYTES, treeDepth } from '../../src/dag/profile.ts'
import { NAR_MAX_BYTES } from '../../src/limits.ts'

const GIB = 1024 * LEAF_BYTES

test('leaves and depth at the edges', async (t) => {
  const table: [narSize: number, leaves: number, last: number, depth: number][] = [
    [0, 1, 0, 0],
    [1, 1, 1, 0],
    [LEAF_BYTES, 1, LEAF_BYTES, 0],
    [LEAF_BYTES + 1, 2, 1, 1],
    [GIB - 1, 1024, LEAF_BYTES - 1, 1],
    [GIB, 1024, LEAF_BYTES, 1],
    [GIB + 1, 1025, 1, 2],
    [NAR_MAX_BYTES, 1024 * 1024, LEAF_BYTES, 2],
  ]
  for (const [narSize, leaves, last, depth] of table) {
    await t.test(`${narSize} bytes`, () => {
      assert.equal(leafCount(narSize), leaves)
      assert.equal(leafSize(narSize, leaves - 1), last)
      assert.equal(leafSize(narSize, 0), Math.min(narSize, LEAF_BYTES))
      assert.equal(treeDepth(narSize), depth)
      assert.throws(() => leafSize(narSize, leaves), RangeError)
      assert.throws(() => leafSize(narSize, -1), RangeError)
    })
  }
})

test('sizes that no NAR has', async (t) => {
  for (const narSize of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, NAR_MAX_BYTES + 1, 2 ** 60]) {
    await t.test(String(narSize), () => {
      assert.throws(() => leafCount(narSize), RangeError)
      assert.throws(() => treeDepth(narSize), RangeError)
    })
  }
})
