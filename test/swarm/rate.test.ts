import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRate } from '../../src/swarm/rate.ts'

/** Ten a second and a burst of five, with a clock that the test sets. */
function tenASecond() {
  let now = 1000
  const rate = createRate({ perSecond: 10, burst: 5 }, () => now)
  return { rate, pass: (ms: number) => void (now += ms) }
}

test('a burst goes at once, and then each waits for those before it', () => {
  const { rate } = tenASecond()
  assert.deepEqual(
    Array.from({ length: 8 }, () => rate.take(1, 10_000)),
    [0, 0, 0, 0, 0, 100, 200, 300],
  )
})

test('what waits too long is not counted', () => {
  const { rate } = tenASecond()
  assert.equal(rate.take(5, 0), 0)
  assert.equal(rate.take(3, 250), undefined)
  assert.equal(rate.take(2, 250), 200)
})

test('time brings it back, but no more than the burst', () => {
  const { rate, pass } = tenASecond()
  rate.take(5, 0)
  pass(200)
  assert.deepEqual([rate.take(2, 0), rate.take(1, 0)], [0, undefined])
  pass(1_000_000)
  assert.deepEqual([rate.take(5, 0), rate.take(1, 0)], [0, undefined])
})
