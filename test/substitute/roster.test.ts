import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SOURCE_MAX_FAULTS_PER_NAR, SOURCE_SILENT_MS } from '../../src/limits.ts'
import {
  COST,
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  SourceRestingError,
} from '../../src/source.ts'
import { createRoster } from '../../src/substitute/roster.ts'
import { ALL_BLOCKS, createScores } from '../../src/substitute/scores.ts'
import { recordingLog } from '../kit/log.ts'
import { peer } from './kit.ts'

const one = peer('one', new Map())
const nobody: ReadonlySet<never> = new Set()

function timed() {
  let now = 1_000_000
  const clock = (): number => now
  const scores = createScores({ clock })
  const roster = createRoster([one], { scores, clock, log: recordingLog() })
  const fails = (error: Error, afterMs: number): void => {
    const end = roster.started(one)
    now += afterMs
    end({ error })
  }
  return { roster, scores, fails, pass: (ms: number) => (now += ms) }
}

describe('roster', () => {
  const fault = new SourceFaultError('one', 'reset')
  it('leaves out a source that failed several times until the next round', () => {
    const { roster, fails } = timed()
    for (let i = 1; i <= SOURCE_MAX_FAULTS_PER_NAR; i++) {
      assert.equal(roster.anyLeft(nobody), true)
      fails(fault, 10)
    }
    assert.equal(roster.anyLeft(nobody), false)
    roster.again()
    assert.equal(roster.anyLeft(nobody), true)
  })
  it('leaves out until the next round a source that asks for it, and finds no fault with it', () => {
    const { roster, scores, fails } = timed()
    fails(new SourceRestingError('one', 'come back in a second'), 10)
    assert.deepEqual([roster.anyLeft(nobody), scores.trusted('one')], [false, true])
    roster.again()
    assert.equal(roster.anyLeft(nobody), true)
  })
  it('leaves out for good a source that let us wait for nothing', () => {
    const { roster, fails } = timed()
    fails(fault, SOURCE_SILENT_MS)
    assert.equal(roster.anyLeft(nobody), false)
    roster.again()
    assert.equal(roster.anyLeft(nobody), false)
  })
  it('takes a slow block for no silence', () => {
    const { roster, pass } = timed()
    const end = roster.started(one)
    pass(SOURCE_SILENT_MS)
    roster.heard(one)
    pass(10)
    end({ error: fault })
    assert.equal(roster.anyLeft(nobody), true)
  })
  it('leaves out for good who lied', () => {
    const { roster, fails } = timed()
    fails(new SourceLieError('one', 'too long'), 10)
    roster.again()
    assert.equal(roster.anyLeft(nobody), false)
  })
  it('takes a miss for a sign of life', () => {
    const { scores, fails } = timed()
    fails(fault, 10)
    fails(new SourceMissError('one', 'not here'), 10)
    assert.equal(scores.trusted('one'), true)
  })
  it('takes a source that was overtaken for a failed one only if it gave nobody anything meanwhile', () => {
    const { roster, scores, pass } = timed()
    const [first, second] = [roster.started(one), roster.started(one)]
    pass(100)
    first({ bytes: 1 })
    second('overtaken')
    assert.equal(scores.trusted('one'), true)
    const third = roster.started(one)
    pass(100)
    third('overtaken')
    assert.equal(scores.trusted('one'), false)
  })
  it('asks what is on this machine first and as often as it likes, and learns nothing of peers by it', () => {
    const clock = (): number => 1_000_000
    const scores = createScores({ clock })
    const here = peer('rewritten', new Map(), undefined, COST.local)
    const roster = createRoster([here, one], { scores, clock, log: recordingLog() })
    assert.equal(roster.size(), 1)
    for (let count = 0; count < 20; count++) {
      assert.equal(
        roster.pick(nobody, () => 3),
        here,
      )
      roster.started(here)
    }
    scores.faulted(ALL_BLOCKS)
    roster.started(here)({ bytes: 1 })
    assert.equal(roster.isQuick(), false)
    roster.started(here)({ error: new SourceMissError('rewritten', 'another leaf') })
    assert.equal(scores.trusted(ALL_BLOCKS), false)
  })
})
