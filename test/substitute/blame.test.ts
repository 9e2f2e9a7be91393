import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CID } from 'multiformats/cid'
import { DagError } from '../../src/dag/reader.ts'
import { COST, SourceFaultError } from '../../src/source.ts'
import type { Cost } from '../../src/source.ts'
import { createBlame } from '../../src/substitute/blame.ts'
import { NarHashMismatchError, RootMisfitError } from '../../src/substitute/errors.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { wayId } from '../../src/substitute/ways.ts'
import type { Way } from '../../src/substitute/ways.ts'
import { recordingLog } from '../kit/log.ts'
import { noise, planOf } from '../spool/kit.ts'
import { narInfoOf, stream } from './kit.ts'

const plan = planOf(noise(1000))
const info = narInfoOf(plan)
const other = planOf(noise(1000, 'other'))

const told = (root: CID, isRelayed = false): Way => ({ kind: 'blocks', root, told: 'feed', isRelayed })
const streamed = (id: string, cost: Cost): Way => ({
  kind: 'stream',
  source: stream(id, new Uint8Array(), undefined, { cost }),
})
const root = told(other.root)
const upstream = streamed('upstream', COST.upstream)
const neighbour = streamed('neighbour', COST.neighbour)

function bench({ apart = false } = {}) {
  const heard: string[] = []
  const scores = createScores({
    clock: () => 1_000_000,
    listener: {
      answered: () => {},
      faulted: (id) => void heard.push(`${id} is at fault`),
      lied: (id) => void heard.push(`${id} lied`),
    },
  })
  const badRoots: string[] = []
  const log = recordingLog()
  const blame = createBlame(info, { scores, log, apart, badRoot: (way) => void badRoots.push(wayId(way)) })
  return { blame, scores, badRoots, heard, log }
}

describe('blame for a wrong NAR', () => {
  it('falls on the one way that gave all of it, however often it gave', () => {
    const { blame, badRoots, heard, log } = bench()
    blame.gave(root)
    blame.gave(told(other.root))
    const reason = blame.refuted(other.narHash)
    assert.equal(blame.isWrong(root), true)
    assert.equal(blame.isTainted, true)
    assert.equal(blame.apart, false)
    assert.deepEqual(badRoots, [wayId(root)])
    assert.deepEqual(heard, [`${wayId(root)} lied`])
    assert.equal(reason, `bytes from ${wayId(root)} hash to ${other.narHash}, signed is ${info.narHash}`)
    assert.deepEqual(
      log.lines.map(({ message }) => message),
      [`NAR thrown away: ${reason}`],
    )
  })
  it('is proved of none of several: an upstream is at fault, the others are avoided, and no two are mixed again', () => {
    const { blame, scores, badRoots, heard } = bench()
    for (const way of [root, neighbour, upstream]) blame.gave(way)
    assert.equal(blame.isMixed(root), false)
    blame.refuted(other.narHash)
    for (const way of [root, neighbour, upstream]) {
      assert.equal(blame.isWrong(way), false, wayId(way))
      assert.equal(scores.usable(wayId(way)), false, wayId(way))
    }
    assert.deepEqual(badRoots, [])
    assert.deepEqual(
      heard,
      [wayId(root), 'neighbour', 'upstream'].map((id) => `${id} is at fault`),
    )
    const lies = (way: Way) => scores.all().get(wayId(way))?.lies
    assert.deepEqual([lies(root), lies(neighbour), lies(upstream)], [1, 1, 0])
    assert.equal(blame.apart, true)
  })
  for (const ways of [[upstream], [root, upstream]]) {
    it(`falls on nobody after a kept part, which may have rotted: ${ways.length} more`, () => {
      const { blame, scores, badRoots, heard } = bench()
      blame.tookUp()
      for (const way of ways) blame.gave(way)
      const reason = blame.refuted(other.narHash)
      assert.match(reason, /^bytes from a kept part, /)
      assert.deepEqual([heard, badRoots, scores.all().size], [[], [], 0])
      assert.equal(blame.apart, false)
    })
  }
  it('can fall on a way again when the kept part is thrown away', () => {
    const { blame } = bench()
    blame.tookUp()
    blame.gave(root)
    blame.refuted(other.narHash)
    blame.beginAnew()
    blame.gave(upstream)
    blame.refuted(other.narHash)
    assert.deepEqual([blame.isWrong(upstream), blame.isWrong(root)], [true, false])
  })
})

describe('blame for a way that failed', () => {
  const errors: readonly [Error, boolean][] = [
    [new DagError('codec', 'not the shape of this NAR'), true],
    [new NarHashMismatchError('not its CID'), true],
    [new SourceFaultError('upstream', 'connection reset'), false],
    [new RootMisfitError('another leaf is here'), false],
  ]
  for (const [error, isWrong] of errors) {
    it(`${error.name}: ${isWrong ? 'its root is wrong' : 'nothing is proved'}`, () => {
      const { blame, badRoots } = bench()
      blame.gave(root)
      blame.failed(root, error)
      assert.deepEqual([blame.isWrong(root), blame.isTainted], [isWrong, isWrong])
      assert.deepEqual(badRoots, isWrong ? [wayId(root)] : [])
    })
  }
  it('falls on a root that did not fit, once what it did not fit is proved', () => {
    const { blame, badRoots } = bench()
    blame.gave(upstream)
    blame.failed(root, new RootMisfitError('another leaf is here'))
    blame.proved()
    assert.equal(blame.isWrong(root), true)
    assert.deepEqual(badRoots, [wayId(root)])
    assert.equal(blame.isTainted, false, 'none of what is in hand came by it')
  })
  it('spares a root that did not fit what was thrown away', () => {
    const { blame, badRoots } = bench()
    blame.gave(upstream)
    blame.failed(root, new RootMisfitError('another leaf is here'))
    blame.refuted(other.narHash)
    blame.beginAnew()
    blame.proved()
    assert.deepEqual([blame.isWrong(root), badRoots], [false, []])
  })
  it('remains when what was in hand is thrown away, which taints nothing any more', () => {
    const { blame } = bench()
    blame.gave(root)
    blame.failed(root, new DagError('codec', 'not the shape of this NAR'))
    blame.beginAnew()
    assert.deepEqual([blame.isWrong(root), blame.isTainted], [true, false])
  })
})

describe('ways that are kept apart', () => {
  it('are mixed when another one gave or gives, and not by themselves', () => {
    const { blame } = bench({ apart: true })
    assert.equal(blame.isMixed(upstream), false)
    assert.equal(blame.isMixed(upstream, root), true)
    assert.equal(blame.isMixed(root, told(other.root)), false, 'the same root told again')
    blame.gave(root)
    assert.deepEqual([blame.isMixed(root), blame.isMixed(upstream)], [false, true])
    blame.beginAnew()
    assert.equal(blame.isMixed(upstream), false)
  })
})
