import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SCORE_BACK_OFF_MAX_MS, SCORE_BACK_OFF_MS, SCORE_LIE_BACK_OFF_MS } from '../../src/limits.ts'
import { createScores } from '../../src/substitute/scores.ts'

function timed() {
  let now = 1_000_000
  return { scores: createScores({ clock: () => now }), pass: (ms: number) => (now += ms) }
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
})
