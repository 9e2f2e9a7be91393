import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { sha256 } from '../../src/dag/cid.ts'
import { createLeafHasher } from '../../src/substitute/leaf-hasher.ts'

const leaf = randomBytes(1000)

test('the digest of what came into the buffer, piece by piece', () => {
  const buffer = new Uint8Array(2000)
  const hasher = createLeafHasher(buffer)
  for (let at = 0; at < leaf.length; at += 300) {
    const piece = leaf.subarray(at, at + 300)
    buffer.set(piece, at)
    hasher.came(piece.length)
  }
  assert.deepEqual(hasher.digestOf(buffer.subarray(0, leaf.length)), sha256(leaf))
})

test('none of bytes that are elsewhere, or not all that came', () => {
  const buffer = new Uint8Array(2000)
  buffer.set(leaf)
  const came = () => {
    const hasher = createLeafHasher(buffer)
    hasher.came(leaf.length)
    return hasher
  }
  assert.equal(came().digestOf(Uint8Array.from(leaf)), undefined)
  assert.equal(came().digestOf(buffer.subarray(0, leaf.length - 1)), undefined)
  assert.equal(came().digestOf(buffer.subarray(1, leaf.length + 1)), undefined)
  assert.equal(createLeafHasher(buffer).digestOf(buffer.subarray(0, leaf.length)), undefined)
})

test('more than the buffer holds is not looked at', () => {
  const buffer = Uint8Array.from(leaf)
  const hasher = createLeafHasher(buffer)
  hasher.came(leaf.length + 500)
  assert.deepEqual(hasher.digestOf(buffer), sha256(leaf))
})
