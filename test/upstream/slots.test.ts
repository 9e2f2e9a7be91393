import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSlots } from '../../src/upstream/slots.ts'
import { calm } from './bytes.ts'

void test('so many at once, the others in their order', async () => {
  const slots = createSlots(2)
  const order: number[] = []
  const taken = [1, 2, 3, 4].map(async (one) => {
    await slots.take(calm)
    order.push(one)
  })
  await Promise.all(taken.slice(0, 2))
  assert.deepEqual(order, [1, 2])
  slots.free()
  await taken[2]
  assert.deepEqual(order, [1, 2, 3])
  slots.free()
  await taken[3]
  assert.deepEqual(order, [1, 2, 3, 4])
})

void test('who leaves the queue takes no slot', async () => {
  const slots = createSlots(1)
  await slots.take(calm)
  const gone = new AbortController()
  const first = slots.take({ signal: gone.signal })
  const second = slots.take(calm)
  gone.abort(new Error('gone'))
  await assert.rejects(first, /gone/)
  slots.free()
  await second
  slots.free()
  await slots.take(calm)
  await assert.rejects(slots.take({ signal: gone.signal }), /gone/)
})
