import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { PATIENCE_MIN_SAMPLES_COUNT, PATIENCE_SAMPLES_COUNT } from '../../src/limits.ts'
import { createPatience, type Patience } from '../../src/upstream/patience.ts'

const range = { floorMs: 1_000, ceilingMs: 2_500 }
const after = (...samples: number[]): Patience => {
  const patience = createPatience(range)
  for (const ms of samples) patience.took(ms)
  return patience
}

const quick = (count: number): number[] => Array.from({ length: count }, () => 20)

void test('before enough is known the deadline is the ceiling', () => {
  assert.equal(after().deadlineMs, 2_500)
  assert.equal(after(...quick(PATIENCE_MIN_SAMPLES_COUNT - 1)).deadlineMs, 2_500)
})

void test('a quick host gets the floor', () => {
  assert.equal(after(...quick(PATIENCE_MIN_SAMPLES_COUNT)).deadlineMs, 1_000)
})

void test('a middling host gets four times what its slow answers took', () => {
  assert.equal(after(...Array.from({ length: 30 }, () => 400)).deadlineMs, 1_600)
})

void test('one slow answer among many changes nothing', () => {
  assert.equal(after(...quick(60), 2_000).deadlineMs, 1_000)
})

void test('a host that got slow is waited for again after a few that were cut', () => {
  const patience = after(...quick(PATIENCE_SAMPLES_COUNT))
  const cuts = []
  while (patience.deadlineMs < 2_000 && cuts.length < PATIENCE_SAMPLES_COUNT) {
    cuts.push(patience.deadlineMs)
    patience.took(patience.deadlineMs)
  }
  assert.deepEqual(cuts, [1_000, 1_000, 1_000, 1_000])
})

void test('what was long ago is forgotten', () => {
  const slow = Array.from({ length: PATIENCE_SAMPLES_COUNT }, () => 2_500)
  assert.equal(after(...slow, ...quick(PATIENCE_SAMPLES_COUNT)).deadlineMs, 1_000)
})

void test('the deadline is never outside of its range, and grows with the samples', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 60_000, noNaN: true })), (samples) => {
      const deadline = after(...samples).deadlineMs
      assert.ok(deadline >= range.floorMs && deadline <= range.ceilingMs)
      assert.ok(after(...samples.map((ms) => ms * 2)).deadlineMs >= deadline)
    }),
  )
})
