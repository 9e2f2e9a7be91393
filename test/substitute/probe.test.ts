import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { PROBE_DEADLINE_MS, SCORE_BACK_OFF_MS } from '../../src/limits.ts'
import { createProber } from '../../src/substitute/probe.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { recordingLog } from '../kit/log.ts'
import { noise, planOf } from '../spool/kit.ts'
import { blocksOf, flipped, KIB, MIB, peer, silence, until } from './kit.ts'
import type { Peer } from './kit.ts'

const nar = noise(3 * MIB)
const plan = planOf(nar)
const blocks = blocksOf(nar)

/** The peers failed once, and their back-off is over. */
function probing(...peers: Peer[]) {
  let now = 1_000_000
  const clock = (): number => now
  const scores = createScores({ clock })
  const log = recordingLog()
  for (const { id } of peers) scores.faulted(id)
  now += SCORE_BACK_OFF_MS
  const prober = createProber({ scores, clock, log })
  const watch = (nar: Parameters<typeof prober.watch>[0]): (() => void) => prober.watch(nar, peers)
  return {
    watch,
    probe: (nar: Parameters<typeof watch>[0]) => watch(nar)(),
    scores,
    log,
    pass: (ms: number) => void (now += ms),
  }
}

describe('probe', () => {
  for (const [title, bytes] of [
    ['a node', nar],
    ['a leaf', noise(100 * KIB)],
  ] as const) {
    it(`makes a peer trusted that gives ${title}`, async () => {
      const one = peer('one', blocksOf(bytes))
      const { probe, scores } = probing(one)
      const { root, narSize } = planOf(bytes)
      probe({ root, narSize })
      probe({ root, narSize })
      await until(() => scores.trusted('one'))
      assert.equal(one.asked.length, 1)
      probe({ root, narSize })
      assert.equal(one.asked.length, 1, 'a trusted one is asked')
    })
  }
  it('makes a peer trusted that says that it does not have the block', async () => {
    const { probe, scores } = probing(peer('empty', new Map()))
    probe(plan)
    await until(() => scores.trusted('empty'))
  })
  it('asks again while the NAR is on its way, and not after', (t: TestContext) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    const one = peer('one', blocks)
    const { watch, scores, pass } = probing(one)
    scores.faulted('one')
    const stop = watch(plan)
    assert.equal(one.asked.length, 0)
    pass(2 * SCORE_BACK_OFF_MS)
    t.mock.timers.tick(SCORE_BACK_OFF_MS)
    assert.equal(one.asked.length, 1)
    stop()
    const two = probing(peer('two', blocks))
    two.watch(plan)()
    t.mock.timers.tick(SCORE_BACK_OFF_MS)
    assert.equal(one.asked.length, 1)
  })
  it('leaves out who is still in its back-off', () => {
    const one = peer('one', blocks)
    const { probe, scores } = probing(one)
    scores.faulted('one')
    probe(plan)
    assert.equal(one.asked.length, 0)
  })
  it('takes a wrong block for a lie', async () => {
    const { probe, scores } = probing(peer('liar', blocks, flipped))
    probe(plan)
    await until(() => scores.all().get('liar')?.lies === 1)
  })
  it('gives up a silent one, for longer than before, and tells nobody', async (t: TestContext) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const one = peer('silent', blocks, (_, { signal }) => silence(signal))
    const { probe, scores, log } = probing(one)
    probe(plan)
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
    t.mock.timers.tick(PROBE_DEADLINE_MS)
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
    assert.equal(scores.all().get('silent')?.faults, 2)
    assert.equal(scores.usable('silent'), false)
    assert.deepEqual(
      log.lines.filter(({ level }) => level !== 'debug'),
      [],
    )
  })
})
