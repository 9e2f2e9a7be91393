import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RECENT_BYTES, RECENT_PIECE_MIN_BYTES } from '../../src/limits.ts'
import { createRecentBytes } from '../../src/spool/recent-bytes.ts'
import { noise } from './kit.ts'

const FAR = Number.MAX_SAFE_INTEGER

void test('what was added last is there, from any of its bytes on and no further than is asked for', () => {
  const recent = createRecentBytes()
  const bytes = noise(RECENT_BYTES)
  assert.equal(recent.from({ start: 0, end: 1 }), undefined)
  recent.add(500, bytes)
  assert.equal(recent.from({ start: 499, end: FAR }), undefined)
  assert.deepEqual(recent.from({ start: 500, end: FAR })?.bytes, bytes)
  assert.deepEqual(recent.from({ start: 510, end: 520 })?.bytes, bytes.subarray(10, 20))
  assert.equal(recent.from({ start: 500 + bytes.length, end: FAR }), undefined)
})

void test('a piece is kept until enough came after it', () => {
  const recent = createRecentBytes()
  const half = RECENT_BYTES / 2
  for (const start of [0, half, 2 * half]) recent.add(start, noise(half))
  assert.equal(recent.from({ start: 0, end: FAR }), undefined)
  assert.equal(recent.from({ start: half, end: FAR })?.bytes.length, half)
  recent.add(3 * half, noise(4 * RECENT_BYTES))
  assert.equal(recent.from({ start: 2 * half, end: FAR }), undefined)
  assert.equal(recent.from({ start: 3 * half, end: FAR })?.bytes.length, 4 * RECENT_BYTES)
})

void test('few bytes of many are left to the disk, which gives more at once', () => {
  const recent = createRecentBytes()
  const few = RECENT_PIECE_MIN_BYTES - 1
  recent.add(0, noise(few))
  assert.equal(recent.from({ start: 0, end: FAR }), undefined)
  assert.equal(recent.from({ start: 0, end: few })?.bytes.length, few)
})

void test('a buffer is released when it is kept no longer and each reader is done, once', () => {
  const recent = createRecentBytes()
  const released: string[] = []
  recent.add(0, noise(RECENT_BYTES), () => released.push('a'))
  const range = { start: 0, end: FAR }
  const [first, second] = [recent.from(range), recent.from(range)]
  first?.done()
  recent.add(RECENT_BYTES, noise(RECENT_BYTES), () => released.push('b'))
  assert.deepEqual(released, [])
  second?.done()
  assert.deepEqual(released, ['a'])
  recent.clear()
  assert.deepEqual(released, ['a', 'b'])
  recent.clear()
  assert.deepEqual(released, ['a', 'b'])
})
