import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createLeafBuffers } from '../../src/dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { createPieceQueue } from '../../src/upstream/piece-queue.ts'
import { noise } from '../spool/kit.ts'

const step = fc.oneof(
  fc.record({ add: fc.integer({ min: 0, max: 300 }) }),
  fc.record({ take: fc.integer({ min: 1, max: 4 }) }),
)

void test('gives what came, in order, no two pieces in one buffer, whatever happens to the chunks afterwards', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 100 }),
      async (steps, size) => {
        const queue = createPieceQueue(size)
        const bytes = noise(300 * steps.length)
        const pieces: Uint8Array[] = []
        const counts = { came: 0, given: 0 }
        /** One piece, if there is any: else it would wait. */
        const take = async (): Promise<void> => {
          if (counts.given === counts.came) return
          const piece = await queue.next()
          assert.ok(piece !== undefined && piece.length > 0 && piece.length <= size)
          pieces.push(piece)
          counts.given += piece.length
        }
        for (const one of steps) {
          if ('take' in one) {
            for (let i = 0; i < one.take; i++) await take()
            continue
          }
          const chunk = Uint8Array.from(bytes.subarray(counts.came, counts.came + one.add))
          queue.add(chunk)
          chunk.fill(0)
          counts.came += one.add
        }
        queue.end()
        for (let piece = await queue.next(); piece !== undefined; piece = await queue.next())
          pieces.push(piece)
        assert.deepEqual(Buffer.concat(pieces), bytes.subarray(0, counts.came))
        assert.equal(new Set(pieces.map(({ buffer }) => buffer)).size, pieces.length)
      },
    ),
    { numRuns: 300 },
  )
})

void test('who waits has bytes at once, however few', async () => {
  const queue = createPieceQueue(1000)
  const next = queue.next()
  queue.add(noise(3))
  assert.deepEqual(await next, new Uint8Array(noise(3)))
})

void test('is full while two whole pieces wait', async () => {
  const queue = createPieceQueue(100)
  queue.add(noise(199))
  assert.equal(queue.isFull, false)
  queue.add(noise(1))
  assert.equal(queue.isFull, true)
  await queue.next()
  assert.equal(queue.isFull, false)
})

void test('what came before it broke off is given, then the reason', async () => {
  const queue = createPieceQueue(100)
  queue.add(noise(130))
  queue.fail(new Error('cut'))
  queue.end()
  assert.equal((await queue.next())?.length, 100)
  assert.equal((await queue.next())?.length, 30)
  await assert.rejects(queue.next(), /cut/)
  await assert.rejects(queue.next(), /cut/)
})

void test('large pieces come in the buffers that were lent, and one begun for nothing goes back', async () => {
  const buffers = createLeafBuffers(4)
  const queue = createPieceQueue(LEAF_BYTES, buffers)
  const bytes = noise(LEAF_BYTES + 1000)
  queue.add(bytes)
  queue.end()
  const whole = await queue.next()
  const rest = await queue.next()
  assert.ok(whole !== undefined && rest !== undefined)
  assert.deepEqual(Buffer.concat([whole, rest]), bytes)
  assert.deepEqual([buffers.isLent(whole), buffers.isLent(rest)], [true, false])
  assert.equal(await queue.next(), undefined)
  buffers.give(whole)
  // Both lie ready again, the one of the copied rest too.
  const again = [buffers.take(), buffers.take()].map(({ buffer }) => buffer)
  assert.equal(again.includes(whole.buffer), true)
})

void test('buffers of another size are not taken', async () => {
  const buffers = createLeafBuffers(4)
  const queue = createPieceQueue(1000, buffers)
  queue.add(noise(1000))
  const piece = await queue.next()
  assert.ok(piece !== undefined && !buffers.isLent(piece))
})
