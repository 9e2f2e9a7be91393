import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import {
  LEAF_HANGS_FACTOR,
  LEAF_LATE_FLOOR_MS,
  SOURCE_MAX_FAULTS_PER_NAR,
  SOURCE_SILENT_MS,
  WAY_QUIET_MS,
} from '../../src/limits.ts'
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
  const told: string[] = []
  const listener = {
    answered: () => {},
    faulted: (id: string, reason = 'in vain') => void told.push(`${id}: ${reason}`),
    lied: () => {},
  }
  const scores = createScores({ clock, listener })
  const roster = createRoster([one], { scores, clock, log: recordingLog() })
  const fails = (error: Error, afterMs: number): void => {
    const end = roster.started(one)
    now += afterMs
    end({ error })
  }
  return { roster, scores, fails, told, pass: (ms: number) => (now += ms) }
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
  it('takes a source for a failed one that gave no byte until another had given the same, many times as quickly', () => {
    const { roster, scores, told, pass } = timed()
    const end = roster.started(one)
    pass(LEAF_LATE_FLOOR_MS)
    end({ othersTookMs: 10 })
    assert.deepEqual([scores.trusted('one'), told], [false, ['one: in vain']])
  })
  it('lets one that gave before hang once, and tells it', () => {
    const { roster, scores, told, pass } = timed()
    scores.received('one', LEAF_BYTES)
    const ends = [roster.started(one), roster.started(one), roster.started(one)]
    pass(LEAF_LATE_FLOOR_MS)
    for (const end of ends) end({ othersTookMs: 10 })
    assert.deepEqual([scores.trusted('one'), told], [true, ['one: in vain']])
    pass(1)
    const end = roster.started(one)
    pass(LEAF_LATE_FLOOR_MS)
    end({ othersTookMs: 10 })
    assert.equal(told.length, 2)
  })
  it('says stalled of one that gave the beginning of a block and then no more', () => {
    const { roster, told, pass } = timed()
    const end = roster.started(one)
    pass(10)
    roster.heard(one)
    pass(WAY_QUIET_MS)
    end('stalled')
    assert.deepEqual(told, ['one: it stalled'])
  })
  const fair: Record<string, (given: ReturnType<typeof timed>) => void> = {
    'was asked only a moment ago': ({ roster, pass }) => {
      const end = roster.started(one)
      pass(LEAF_LATE_FLOOR_MS - 1)
      end({ othersTookMs: 10 })
    },
    'was given no more time than others took': ({ roster, pass }) => {
      const end = roster.started(one)
      pass(LEAF_HANGS_FACTOR * 1_000 - 1)
      end({ othersTookMs: 1_000 })
    },
    'is giving, slowly': ({ roster, pass }) => {
      const end = roster.started(one)
      pass(5_000)
      roster.heard(one)
      pass(100)
      end({ othersTookMs: 10 })
    },
    'gives blocks of another NAR': ({ roster, scores, pass }) => {
      const end = roster.started(one)
      pass(1_000)
      scores.delivered('one', 1, 50)
      pass(100)
      end({ othersTookMs: 10 })
    },
    'is never quicker': ({ roster, pass }) => {
      const first = roster.started(one)
      pass(1_000)
      first({ bytes: 1 })
      const second = roster.started(one)
      pass(2_000)
      second({ othersTookMs: 10 })
    },
    'is not wanted any more': ({ roster, pass }) => {
      const end = roster.started(one)
      pass(5_000)
      end()
    },
  }
  for (const [title, happens] of Object.entries(fair)) {
    it(`finds no fault with one that was overtaken and ${title}`, () => {
      const given = timed()
      happens(given)
      assert.deepEqual([given.scores.trusted('one'), given.told], [true, []])
    })
  }
  it('does not double a leaf at one that failed lately, nor again at one that gave nothing right yet', () => {
    const { roster, scores, pass } = timed()
    assert.equal(roster.pickIdle(nobody), one)
    const end = roster.started(one)
    assert.equal(roster.pickIdle(nobody), undefined)
    pass(1)
    end({ othersTookMs: 1 })
    assert.equal(roster.pickIdle(nobody), undefined)
    assert.equal(
      roster.pick(nobody, () => 1),
      one,
    )
    scores.received('one', LEAF_BYTES)
    assert.equal(roster.pickIdle(nobody), one)
    scores.faulted('one')
    assert.equal(roster.pickIdle(nobody), undefined)
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
