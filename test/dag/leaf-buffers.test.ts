import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLeafBuffers } from '../../src/dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'

void test('a buffer that was given back is lent again, given by any view of it', () => {
  const buffers = createLeafBuffers(2)
  const first = buffers.take()
  assert.equal(first.length, LEAF_BYTES)
  assert.equal(buffers.isLent(first.subarray(5, 7)), true)
  buffers.give(first.subarray(5, 7))
  assert.equal(buffers.isLent(first), false)
  assert.equal(buffers.take().buffer, first.buffer)
})

void test('one that was given twice is lent to one only', () => {
  const buffers = createLeafBuffers(2)
  const first = buffers.take()
  buffers.give(first)
  buffers.give(first)
  assert.notEqual(buffers.take().buffer, buffers.take().buffer)
})

void test('what was never lent stays its owner’s', () => {
  const buffers = createLeafBuffers(2)
  const own = new Uint8Array(LEAF_BYTES)
  assert.equal(buffers.isLent(own), false)
  buffers.give(own)
  assert.notEqual(buffers.take().buffer, own.buffer)
})

void test('no more lie ready than are to be kept', () => {
  const buffers = createLeafBuffers(1)
  const [first, second] = [buffers.take(), buffers.take()]
  buffers.give(first)
  buffers.give(second)
  assert.equal(buffers.take().buffer, first.buffer)
  assert.notEqual(buffers.take().buffer, second.buffer)
})
