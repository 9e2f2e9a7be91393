import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import {
  GROWING_PACE_FACTOR,
  HEDGE_START_MS,
  LAST_RESORT_MS,
  PACE_FACTOR,
  RIVAL_SILENT_MS,
  RIVALS_MAX_COUNT,
  WAY_PACE_MS,
  WAY_QUIET_MS,
} from '../../src/limits.ts'
import { COST } from '../../src/source.ts'
import type { StreamSource } from '../../src/source.ts'
import { WayStalledError } from '../../src/substitute/errors.ts'
import { createFirstBytes } from '../../src/substitute/first-bytes.ts'
import { watchWithHedge } from '../../src/substitute/hedge.ts'
import type { Runner } from '../../src/substitute/runner.ts'
import { createScores } from '../../src/substitute/scores.ts'
import type { Way } from '../../src/substitute/ways.ts'
import { KIB, MIB, stream } from './kit.ts'

function wayNamed(id: string, more: Pick<StreamSource, 'firstByteMs' | 'isGrowing'> = {}): Way {
  const source = stream(id, new Uint8Array(0), undefined, { cost: COST.upstream })
  return { kind: 'stream', source: { ...source, ...more } }
}

/** A runner whose bytes come by hand. */
function runnerOf(way: Way) {
  const readiness = Promise.withResolvers<void>()
  readiness.promise.catch(() => {})
  const state = { arrived: 0, lastAt: Date.now() }
  let stopped: Error | undefined
  const runner: Runner = {
    way,
    start: 0,
    begunAt: Date.now(),
    get arrived() {
      return state.arrived
    },
    get lastAt() {
      return state.lastAt
    },
    onArrival: undefined,
    ready: () => readiness.promise,
    next: () => Promise.reject(new Error('nobody calls this')),
    async stop(reason) {
      stopped ??= reason
    },
  }
  return {
    runner,
    stopped: () => stopped,
    fails: (error: Error) => readiness.reject(error),
    gives(count: number) {
      state.arrived += count
      state.lastAt = Date.now()
      runner.onArrival?.()
      readiness.resolve()
    },
  }
}

/** Time that passes by hand, in steps of 50 ms. */
function hedging(
  t: TestContext,
  names: readonly string[],
  {
    doubtful = false,
    pieceMs = 0,
    better,
    ...more
  }: { doubtful?: boolean; pieceMs?: number; better?: Promise<Way | undefined> } & Pick<
    StreamSource,
    'firstByteMs' | 'isGrowing'
  > = {},
) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  const scores = createScores({ clock: Date.now })
  const firstBytes = createFirstBytes()
  const left = names.map((name) => wayNamed(name))
  const begun: ReturnType<typeof runnerOf>[] = []
  const failed: unknown[] = []
  const followed = runnerOf(wayNamed('followed', more))
  const hedge = watchWithHedge(
    followed.runner,
    {
      doubtful,
      pieceMs: () => pieceMs,
      takeNext: async () => left.shift(),
      giveBack: (way) => left.unshift(way),
      putOff: (way) => left.push(way),
      begin(way) {
        const one = runnerOf(way)
        begun.push(one)
        return one.runner
      },
      rivalFailed: (_, error) => failed.push(error),
      better,
    },
    { clock: Date.now, firstBytes, scores },
  )
  hedge.waitsSince = Date.now()
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await Promise.resolve()
  }
  const pass = async (ms: number, step: () => void = () => {}): Promise<void> => {
    for (let at = 0; at < ms; at += 50) {
      step()
      t.mock.timers.tick(50)
      await settle()
    }
  }
  return { hedge, followed, begun, failed, left, scores, firstBytes, pass, settle }
}

describe('hedge', () => {
  it('begins the next way beside one that gives nothing, and follows it from its first byte on', async (t) => {
    const { hedge, followed, begun, pass, settle } = hedging(t, ['next'])
    await pass(HEDGE_START_MS - 50)
    assert.equal(begun.length, 0)
    await pass(100)
    assert.equal(begun.length, 1)
    assert.equal(followed.stopped(), undefined, 'given up before the next one has shown anything')
    begun[0]?.gives(1)
    await settle()
    assert.equal(hedge.winner, begun[0]?.runner)
    assert.ok(followed.stopped() instanceof WayStalledError)
  })
  describe('a better way', () => {
    const better = (): Promise<Way> => Promise.resolve(wayNamed('better'))
    it('takes over from one that does well, at its first byte, and that one is not at fault', async (t) => {
      const { hedge, followed, begun, pass, settle } = hedging(t, ['next'], { better: better() })
      followed.gives(MIB)
      await pass(100, () => followed.gives(MIB))
      assert.deepEqual([begun.length, hedge.winner, followed.stopped()], [1, undefined, undefined])
      begun[0]?.gives(1)
      await settle()
      assert.equal(hedge.winner, begun[0]?.runner)
      assert.ok(followed.stopped() && !(followed.stopped() instanceof WayStalledError))
    })
    it('that is none changes nothing', async (t) => {
      const { hedge, begun, followed, pass } = hedging(t, ['next'], { better: Promise.resolve(undefined) })
      await pass(500, () => followed.gives(MIB))
      assert.deepEqual([begun.length, hedge.winner], [0, undefined])
    })
    it('that fails is told of, and the followed one goes on', async (t) => {
      const { hedge, followed, begun, failed, left, pass, settle } = hedging(t, ['next'], {
        better: better(),
      })
      await pass(50, () => followed.gives(MIB))
      begun[0]?.fails(new Error('gone'))
      await settle()
      assert.equal(failed.length, 1)
      assert.deepEqual([hedge.winner, followed.stopped(), left.length], [undefined, undefined, 1])
      await pass(WAY_QUIET_MS + 500)
      assert.equal(begun.length, 2, 'the next way is begun when the followed one falls silent')
    })
    it('that gives nothing is stopped, and does not keep others from being begun', async (t) => {
      const { hedge, followed, begun, left, pass } = hedging(t, ['next'], { better: better() })
      await pass(WAY_PACE_MS + 300, () => followed.gives(MIB))
      assert.ok(begun[0]?.stopped())
      assert.deepEqual([hedge.winner, followed.stopped(), left.length], [undefined, undefined, 1])
      await pass(WAY_QUIET_MS + 500)
      assert.equal(begun.length, 2)
    })
    it('races with the one that was begun beside, which is given back when it wins', async (t) => {
      const ready = Promise.withResolvers<Way>()
      const { hedge, begun, left, pass, settle } = hedging(t, ['next'], { better: ready.promise })
      await pass(HEDGE_START_MS + 50)
      assert.equal(begun.length, 1)
      ready.resolve(wayNamed('better'))
      await settle()
      assert.equal(begun[0]?.stopped(), undefined)
      begun[1]?.gives(1)
      await settle()
      assert.equal(hedge.winner, begun[1]?.runner)
      assert.ok(begun[0]?.stopped())
      assert.equal(left.length, 1)
    })
    it('is stopped when another one wins', async (t) => {
      const { hedge, begun, pass, settle } = hedging(t, ['next'], { better: better() })
      await pass(HEDGE_START_MS + 50)
      begun[1]?.gives(1)
      await settle()
      assert.equal(hedge.winner, begun[1]?.runner)
      assert.ok(begun[0]?.stopped())
    })
    it('is followed next when the followed one fails before it has given anything', async (t) => {
      const { hedge, begun, settle } = hedging(t, [], { better: better() })
      await settle()
      assert.equal(hedge.stop(), begun[0]?.runner)
      assert.equal(begun[0]?.stopped(), undefined)
    })
    it('that is found when all is over is not begun', async (t) => {
      const ready = Promise.withResolvers<Way>()
      const { hedge, begun, settle } = hedging(t, [], { better: ready.promise })
      hedge.stop()
      ready.resolve(wayNamed('better'))
      await settle()
      assert.equal(begun.length, 0)
    })
  })
  it('begins it at once when all peers of the way failed lately', async (t) => {
    const { begun, pass } = hedging(t, ['next'], { doubtful: true })
    await pass(50)
    assert.equal(begun.length, 1)
  })
  it('stops the loser at once, and gives its way back', async (t) => {
    const { hedge, followed, begun, left, pass } = hedging(t, ['next'])
    await pass(HEDGE_START_MS + 50)
    followed.gives(1)
    assert.ok(begun[0]?.stopped())
    assert.equal(left.length, 1)
    begun[0]?.gives(MIB)
    await pass(50)
    assert.equal(hedge.winner, undefined)
    assert.equal(followed.stopped(), undefined)
  })
  it('begins one at a time, and the next when one fails', async (t) => {
    const { begun, failed, pass, settle } = hedging(t, ['a', 'b', 'c'])
    await pass(HEDGE_START_MS + 50)
    assert.equal(begun.length, 1)
    begun[0]?.fails(new Error('refused'))
    await settle()
    await pass(50)
    assert.equal(begun.length, 2)
    assert.equal(failed.length, 1)
  })
  it('begins a further one when the last is as silent, and follows whoever gives something first', async (t) => {
    const { hedge, followed, begun, left, pass, settle } = hedging(t, ['a', 'b', 'c', 'd', 'e', 'f'])
    await pass(HEDGE_START_MS + 50)
    assert.equal(begun.length, 1)
    await pass(RIVAL_SILENT_MS - 100)
    assert.equal(begun.length, 1)
    await pass(350)
    assert.equal(begun.length, 2)
    await pass(20 * RIVAL_SILENT_MS)
    assert.equal(begun.length, RIVALS_MAX_COUNT)
    begun[1]?.gives(1)
    await settle()
    assert.equal(hedge.winner, begun[1]?.runner)
    const stalled = [followed, ...begun].map((one) => one.stopped() instanceof WayStalledError)
    assert.deepEqual(stalled, [true, true, false, false, false])
    assert.deepEqual(
      [followed, ...begun].map((one) => one.stopped() !== undefined),
      [true, true, false, true, true],
    )
    assert.deepEqual(
      left.map((way) => (way.kind === 'stream' ? way.source.id : '')),
      ['c', 'd', 'e', 'f', 'a'],
    )
  })
  it('needs none of them when the followed one moves', async (t) => {
    const { hedge, followed, begun, left, pass } = hedging(t, ['a', 'b'])
    await pass(HEDGE_START_MS + RIVAL_SILENT_MS + 500)
    assert.equal(begun.length, 2)
    followed.gives(1)
    assert.ok(begun.every((one) => one.stopped() !== undefined))
    assert.equal(left.length, 2)
    assert.equal(hedge.stop(), undefined)
  })
  it('waits for as long as first bytes take of late', async (t) => {
    const { begun, pass, firstBytes } = hedging(t, [])
    for (let i = 0; i < 10; i++) firstBytes.came(i === 9 ? 10_000 : 200)
    assert.equal(firstBytes.delayMs(), 200)
    await pass(50)
    assert.equal(begun.length, 0)
  })
  it('waits for as long as the way says that its first byte may take', async (t) => {
    const { begun, pass } = hedging(t, ['next'], { firstByteMs: 4 * HEDGE_START_MS })
    await pass(4 * HEDGE_START_MS - 50)
    assert.equal(begun.length, 0)
    await pass(100)
    assert.equal(begun.length, 1)
  })
  it('is begun when the way falls silent, each time later than before', async (t) => {
    const { followed, begun, pass } = hedging(t, ['next'])
    followed.gives(MIB)
    await pass(WAY_QUIET_MS - 100)
    assert.equal(begun.length, 0)
    await pass(600)
    assert.equal(begun.length, 1)
    followed.gives(MIB)
    await pass(WAY_QUIET_MS + 500)
    assert.equal(begun.length, 1)
    await pass(WAY_QUIET_MS)
    assert.equal(begun.length, 2)
  })
  it('takes no silence for that of the source while we are busy ourselves', async (t) => {
    const { hedge, followed, begun, pass } = hedging(t, ['next'])
    followed.gives(100 * MIB)
    hedge.waitsSince = undefined
    await pass(3 * WAY_QUIET_MS)
    assert.equal(begun.length, 0)
  })
  it('expects no leaf sooner than they come as a rule', async (t) => {
    const { followed, begun, pass } = hedging(t, ['next'], { pieceMs: 2_000 })
    followed.gives(MIB)
    await pass(2 * WAY_QUIET_MS)
    assert.equal(begun.length, 0)
  })
  it('tries the next beside a trickle, which it leaves when more comes from there', async (t) => {
    const { hedge, followed, begun, pass, settle } = hedging(t, ['next'])
    await pass(WAY_PACE_MS + 500, () => followed.gives(1))
    assert.equal(begun.length, 1)
    begun[0]?.gives(64 * KIB)
    await settle()
    assert.equal(hedge.winner, begun[0]?.runner)
  })
  it('stays with a slow way when the next is no faster, and tries again later', async (t) => {
    const { hedge, followed, begun, left, pass } = hedging(t, ['next'])
    const step = (): void => followed.gives(4 * KIB)
    await pass(WAY_PACE_MS + 500, step)
    assert.equal(begun.length, 1)
    await pass(1_000, step)
    begun[0]?.gives(16 * KIB)
    await pass(50, step)
    assert.equal(hedge.winner, undefined)
    assert.equal(left.length, 1)
    await pass(WAY_PACE_MS, step)
    assert.equal(begun.length, 1)
    await pass(WAY_PACE_MS + 500, step)
    assert.equal(begun.length, 2)
  })
  it('leaves a way for one that is known to be many times faster', async (t) => {
    const { hedge, followed, begun, scores, pass, settle } = hedging(t, ['next'])
    // 1 MiB a second.
    const step = (): void => followed.gives(MIB / 20)
    scores.paced('next', (PACE_FACTOR + 1) * MIB, 1_000)
    await pass(WAY_PACE_MS + 500, step)
    assert.equal(begun.length, 1)
    begun[0]?.gives(1)
    await settle()
    assert.equal(hedge.winner, begun[0]?.runner)
  })
  it('leaves one who gets the NAR itself only for a way that is known to be faster still', async (t) => {
    const { begun, followed, scores, pass } = hedging(t, ['next'], { isGrowing: true })
    const step = (): void => followed.gives(MIB / 20)
    scores.paced('next', (PACE_FACTOR + 1) * MIB, 1_000)
    await pass(4 * WAY_PACE_MS, step)
    assert.equal(begun.length, 0)
    for (let i = 0; i < 20; i++) scores.paced('next', 2 * GROWING_PACE_FACTOR * MIB, 1_000)
    await pass(8 * WAY_PACE_MS, step)
    assert.equal(begun.length, 1)
  })
  it('does not try a way of which nothing is known beside one that moves', async (t) => {
    const { followed, begun, pass } = hedging(t, ['next'])
    await pass(4 * WAY_PACE_MS, () => followed.gives(MIB / 20))
    assert.equal(begun.length, 0)
  })
  it('keeps the only way, however slow or silent', async (t) => {
    const { hedge, followed, pass } = hedging(t, [])
    await pass(20 * WAY_PACE_MS)
    assert.equal(followed.stopped(), undefined)
    assert.equal(hedge.winner, undefined)
  })
  it('gives peers that all failed lately a short time, when nobody else is left', async (t) => {
    const { hedge, followed, pass } = hedging(t, [], { doubtful: true })
    await pass(LAST_RESORT_MS - 100)
    assert.equal(followed.stopped(), undefined)
    await pass(500)
    assert.ok(followed.stopped() instanceof WayStalledError)
    assert.equal(hedge.winner, undefined)
  })
  it('hands over what is under way when it is stopped, and does nothing after that', async (t) => {
    const { hedge, followed, begun, pass, settle } = hedging(t, ['next', 'other'])
    await pass(HEDGE_START_MS + 50)
    assert.equal(hedge.stop(), begun[0]?.runner)
    begun[0]?.gives(1)
    await settle()
    await pass(20 * WAY_PACE_MS)
    assert.equal(hedge.winner, undefined)
    assert.equal(followed.stopped(), undefined)
    assert.equal(begun.length, 1)
  })
})
