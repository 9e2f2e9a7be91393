import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  PACE_MAX_AGE_MS,
  PACE_MIN_BYTES,
  SCORE_BACK_OFF_MAX_MS,
  SCORE_BACK_OFF_MS,
  SCORE_LIE_BACK_OFF_MS,
  SCORES_MAX_COUNT,
} from '../../src/limits.ts'
import { createScores } from '../../src/substitute/scores.ts'

function timed() {
  let now = 1_000_000
  return { scores: createScores({ clock: () => now }), pass: (ms: number) => (now += ms), now: () => now }
}

describe('scores', () => {
  it('leave a failing source alone for longer each time, and never for more than the cap', () => {
    const { scores, pass } = timed()
    for (let i = 0; i < 12; i++) {
      scores.faulted('a')
      const backOff = Math.min(SCORE_BACK_OFF_MAX_MS, SCORE_BACK_OFF_MS * 2 ** i)
      pass(backOff - 1)
      assert.equal(scores.usable('a'), false, `after fault ${i + 1}`)
      pass(1)
      assert.equal(scores.usable('a'), true, `after fault ${i + 1}`)
    }
  })
  it('forgive faults at the first block', () => {
    const { scores } = timed()
    scores.faulted('a')
    scores.delivered('a', 10, 1)
    assert.equal(scores.usable('a'), true)
  })
  it('do not forgive a lie for a right block, nor for a fault', () => {
    const { scores, pass } = timed()
    scores.lied('a')
    scores.delivered('a', 10, 1)
    scores.faulted('a')
    pass(SCORE_LIE_BACK_OFF_MS - 1)
    assert.equal(scores.usable('a'), false)
    pass(1)
    assert.equal(scores.usable('a'), true)
  })
  it('take the requests that were under way when a source failed for one fault, whichever NAR they were of', () => {
    const { scores, pass, now } = timed()
    const begun = now()
    pass(100)
    for (let i = 0; i < 25; i++) scores.faulted('a', begun)
    assert.equal(scores.all().get('a')?.faults, 1)
    pass(SCORE_BACK_OFF_MS)
    assert.equal(scores.usable('a'), true)
    const again = now()
    pass(1)
    scores.faulted('a', again)
    assert.equal(scores.all().get('a')?.faults, 2)
  })
  it('trust a source that failed only when it has answered again', () => {
    const { scores, pass } = timed()
    assert.equal(scores.trusted('a'), true)
    scores.faulted('a')
    pass(SCORE_BACK_OFF_MAX_MS)
    assert.deepEqual([scores.usable('a'), scores.trusted('a')], [true, false])
    scores.answered('a')
    assert.equal(scores.trusted('a'), true)
  })
  it('keep no account of a source that many others came after, and of one that is in use', () => {
    const { scores } = timed()
    scores.received('old', 1)
    scores.received('used', 1)
    for (let i = 1; i < SCORES_MAX_COUNT; i++) {
      scores.faulted(`stranger-${i}`)
      assert.equal(scores.usable('used'), true)
    }
    assert.equal(scores.all().size, SCORES_MAX_COUNT)
    assert.deepEqual([scores.bytes('old'), scores.bytes('used')], [0, 1])
  })
  it('tell what blocks were on the wire, whose they were forgotten or not', () => {
    const got: unknown[] = []
    const scores = createScores({ clock: () => 1, got: { add: (...counts) => void got.push(counts) } })
    scores.delivered('a', 10, 1, { bytes: 5, byDifference: false })
    scores.delivered('b', 20, 1, { bytes: 2, byDifference: true })
    scores.delivered('c', 30, 1)
    assert.deepEqual(got, [
      [10, 5, false],
      [20, 2, true],
    ])
  })
  it('forget a pace after a while, and measure none by a few bytes', () => {
    const { scores, pass } = timed()
    scores.paced('a', PACE_MIN_BYTES - 1, 1)
    assert.equal(scores.pace('a'), undefined)
    scores.paced('a', 2 * PACE_MIN_BYTES, 2_000)
    assert.equal(scores.pace('a'), PACE_MIN_BYTES)
    pass(PACE_MAX_AGE_MS + 1)
    assert.equal(scores.pace('a'), undefined)
  })
})
