import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CHUNK_BYTES,
  FIRST_CHUNK_BYTES,
  LONG_CHUNK_BYTES,
  LONG_CHUNKS_AFTER_BYTES,
  LONG_CHUNKS_QUICK_MS,
  LONG_CHUNKS_SLOW_MS,
} from '../../src/limits.ts'
import { createChunkBuffers } from '../../src/spool/chunk-buffers.ts'

function bench() {
  const time = { now: 0 }
  const buffers = createChunkBuffers(() => time.now)
  /** One chunk as long as is wanted, which the reader then takes so long for. @returns its length */
  const take = (ms: number): number => {
    const { length } = buffers.next(buffers.size)
    time.now += ms
    return length
  }
  const takeLong = (): void => {
    while (take(0) !== LONG_CHUNK_BYTES);
  }
  return { buffers, take, takeLong }
}

test('a chunk keeps its bytes until the next but one is asked for', () => {
  const { buffers } = bench()
  const first = buffers.next(1000).fill(1)
  const second = buffers.next(1000).fill(2)
  assert.ok(first.every((byte) => byte === 1))
  const third = buffers.next(900).fill(3)
  assert.ok(second.every((byte) => byte === 2))
  assert.equal(third.buffer, first.buffer)
  assert.equal(third.length, 900)
})

test('a quick reader is given long chunks after many bytes, not before', () => {
  const { take } = bench()
  const lengths: number[] = []
  for (let given = 0; given < LONG_CHUNKS_AFTER_BYTES; given += lengths.at(-1) ?? 0) lengths.push(take(1))
  assert.equal(lengths.shift(), FIRST_CHUNK_BYTES)
  assert.deepEqual(new Set(lengths), new Set([CHUNK_BYTES]))
  assert.equal(take(1), LONG_CHUNK_BYTES)
})

test('a slow reader is never given a long one', () => {
  const { take } = bench()
  take(LONG_CHUNKS_QUICK_MS)
  for (let i = 0; i < 100; i++) assert.equal(take(LONG_CHUNKS_QUICK_MS), CHUNK_BYTES)
})

test('who is a little slower for long chunks keeps them', () => {
  const { take, takeLong } = bench()
  takeLong()
  for (let i = 0; i < 5; i++) assert.equal(take(LONG_CHUNKS_SLOW_MS), LONG_CHUNK_BYTES)
})

test('who becomes slow gives the long buffers back', () => {
  const { buffers, take, takeLong } = bench()
  takeLong()
  for (let i = 0; i < 3; i++) take(LONG_CHUNKS_SLOW_MS + 1)
  for (let i = 0; i < 2; i++) {
    assert.equal(take(LONG_CHUNKS_SLOW_MS + 1), CHUNK_BYTES)
    assert.equal(buffers.next(CHUNK_BYTES).buffer.byteLength, CHUNK_BYTES)
  }
})

test('a short chunk between others costs no buffer', () => {
  const { buffers, take } = bench()
  take(0)
  const long = [buffers.next(CHUNK_BYTES).buffer, buffers.next(CHUNK_BYTES).buffer]
  const short = [buffers.next(10).buffer, buffers.next(10).buffer]
  assert.deepEqual(short, long)
  assert.ok(long.every((buffer, at) => buffer === short[at]))
})
