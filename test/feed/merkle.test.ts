import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createCompactRange, leafHash, nodeHash } from '../../src/feed/merkle.ts'

/** RFC 6962, section 2.1, word for word. */
function treeHash(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return createHash('sha256').digest()
  const [only] = leaves
  if (leaves.length === 1 && only !== undefined) return only
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return nodeHash(treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)))
}

const LEAVES = Array.from({ length: 300 }, (_, n) => leafHash(Buffer.from(`leaf ${n}`)))

test('leaf and node hashes are prefixed', () => {
  assert.equal(
    Buffer.from(leafHash(new Uint8Array())).toString('hex'),
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  )
  const expected = createHash('sha256').update(
    Buffer.concat([Buffer.of(1), LEAVES[0] ?? '', LEAVES[1] ?? ''] as Buffer[]),
  )
  assert.deepEqual(nodeHash(LEAVES[0] ?? new Uint8Array(), LEAVES[1] ?? new Uint8Array()), expected.digest())
})

test('the root of every size from 0 to 300 is the recursive tree hash', () => {
  const range = createCompactRange()
  for (let size = 0; size <= LEAVES.length; size++) {
    assert.deepEqual(Buffer.from(range.root()), Buffer.from(treeHash(LEAVES.slice(0, size))), `size ${size}`)
    const leaf = LEAVES[size]
    if (leaf !== undefined) range.append(leaf)
  }
})

test('a range can be stopped and taken up anywhere', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 300 }), (a, b) => {
      const [stop, size] = [Math.min(a, b), Math.max(a, b)]
      const first = createCompactRange()
      for (const leaf of LEAVES.slice(0, stop)) first.append(leaf)
      const second = createCompactRange({ size: first.size, hashes: first.hashes })
      for (const leaf of LEAVES.slice(stop, size)) second.append(leaf)
      assert.deepEqual(Buffer.from(second.root()), Buffer.from(treeHash(LEAVES.slice(0, size))))
    }),
  )
})

test('tells the root of each full tile, also of the second level', () => {
  const told: [number, number, string][] = []
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  const range = createCompactRange(undefined, (level, n, root) => told.push([level, n, hex(root)]))
  const tile = createCompactRange()
  for (const leaf of LEAVES.slice(0, 256)) tile.append(leaf)
  for (let n = 0; n < 256; n++) {
    for (const leaf of LEAVES.slice(0, 256)) range.append(leaf)
  }
  const root = hex(tile.root())
  assert.equal(told.length, 257)
  assert.deepEqual(told[0], [0, 0, root])
  assert.deepEqual(told[255], [0, 255, root])
  assert.deepEqual(told[256], [1, 0, hex(range.root())])
})

test('whole subtrees can stand for their leaves', () => {
  const whole = createCompactRange()
  for (const leaf of LEAVES) whole.append(leaf)
  const jumps = createCompactRange()
  const tile = createCompactRange()
  for (const leaf of LEAVES.slice(0, 256)) tile.append(leaf)
  jumps.appendSubtree(tile.root(), 8)
  for (const leaf of LEAVES.slice(256)) jumps.append(leaf)
  assert.deepEqual(jumps.root(), whole.root())
})

test('sizes above 2^32 count right', () => {
  const size = 2 ** 40 - 1
  const hashes = Array.from({ length: 40 }, () => LEAVES[0] ?? new Uint8Array(32))
  const range = createCompactRange({ size, hashes })
  range.append(LEAVES[1] ?? new Uint8Array(32))
  assert.equal(range.size, 2 ** 40)
  assert.equal(range.hashes.length, 1)
})

test('refuses a state that does not belong together', () => {
  assert.throws(() => createCompactRange({ size: 3, hashes: LEAVES.slice(0, 1) }), RangeError)
  assert.throws(() => createCompactRange({ size: 1, hashes: [new Uint8Array(31)] }), RangeError)
  const range = createCompactRange({ size: 1, hashes: LEAVES.slice(0, 1) })
  assert.throws(() => range.appendSubtree(LEAVES[1] ?? new Uint8Array(32), 1), RangeError)
})
