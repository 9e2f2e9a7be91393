import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { BREAKER_FAILURES_COUNT, BREAKER_REST_CEILING_MS, BREAKER_REST_FLOOR_MS } from '../../src/limits.ts'
import { createBreaker, type Attempt, type Breaker } from '../../src/upstream/breaker.ts'

function bench(random = 0.5) {
  let now = 0
  const told: string[] = []
  const breaker = createBreaker({
    failures: BREAKER_FAILURES_COUNT,
    clock: () => now,
    random: () => random,
    onOpen: (reason, restMs) => told.push(`open: ${reason}, ${restMs}`),
    onClose: () => told.push('close'),
    onVerdict: () => told.push('verdict'),
  })
  return { breaker, told, pass: (ms: number) => (now += ms), at: () => now }
}

function go(breaker: Breaker, urgent = false): Attempt {
  const attempt = breaker.begin(urgent)
  assert.ok(typeof attempt === 'object', 'expected to be let through')
  return attempt
}

function fail(breaker: Breaker, times = BREAKER_FAILURES_COUNT): void {
  for (let i = 0; i < times; i++) go(breaker).failed({ reason: 'refused' })
}

describe('breaker: opening', () => {
  it('opens after so many failures in a row', () => {
    const { breaker, told } = bench()
    fail(breaker, BREAKER_FAILURES_COUNT - 1)
    assert.equal(breaker.restsMs, undefined)
    assert.equal(breaker.reason, 'refused')
    fail(breaker, 1)
    assert.equal(breaker.restsMs, BREAKER_REST_FLOOR_MS)
    assert.equal(breaker.begin(false), 'resting')
    assert.deepEqual(told, [`open: refused, ${BREAKER_REST_FLOOR_MS}`])
  })
  it('begins to count anew after a success', () => {
    const { breaker } = bench()
    fail(breaker, BREAKER_FAILURES_COUNT - 1)
    go(breaker).succeeded()
    assert.equal(breaker.reason, undefined)
    fail(breaker, BREAKER_FAILURES_COUNT - 1)
    assert.equal(breaker.restsMs, undefined)
  })
  it('takes many connections that were cut together for one failure', () => {
    const { breaker, pass } = bench()
    const together = Array.from({ length: 25 }, () => go(breaker))
    pass(1)
    for (const one of together) one.failed({ reason: 'reset' })
    assert.equal(breaker.restsMs, undefined)
    go(breaker).succeeded()
  })
  it('takes each request that was silent to the end for a failure', () => {
    const { breaker, pass } = bench()
    const together = Array.from({ length: 25 }, () => go(breaker))
    pass(2_500)
    for (const one of together) one.failed({ reason: 'silent', slow: true })
    assert.notEqual(breaker.restsMs, undefined)
  })
  it('opens at once when the host asks for a rest, for as long as it asks', () => {
    const { breaker, told, pass } = bench()
    go(breaker).failed({ reason: '429', restMs: 45_000 })
    assert.deepEqual(told, ['open: 429, 45000'])
    pass(44_999)
    assert.equal(breaker.begin(true), 'resting')
    pass(1)
    go(breaker)
  })
  it('counts no request that was given up', () => {
    const { breaker } = bench()
    for (let i = 0; i < 10; i++) go(breaker).dropped()
    const late = go(breaker)
    late.dropped()
    late.failed({ reason: 'too late' })
    assert.equal(breaker.reason, undefined)
  })
})

describe('breaker: open', () => {
  it('lets one request through after the rest, and closes when that succeeds', () => {
    const { breaker, told, pass } = bench()
    fail(breaker)
    pass(BREAKER_REST_FLOOR_MS - 1)
    assert.equal(breaker.begin(false), 'resting')
    pass(1)
    const probe = go(breaker)
    assert.equal(breaker.begin(false), 'probed')
    assert.equal(breaker.begin(true), 'probed')
    probe.succeeded()
    go(breaker)
    assert.equal(breaker.restsMs, undefined)
    assert.deepEqual(told.slice(1), ['close', 'verdict'])
  })
  it('rests longer each time up to a ceiling, and says so once', () => {
    const { breaker, told, pass } = bench()
    fail(breaker)
    const rests: (number | undefined)[] = []
    for (let i = 0; i < 8; i++) {
      rests.push(breaker.restsMs)
      pass(breaker.restsMs ?? 0)
      go(breaker).failed({ reason: 'still' })
    }
    assert.deepEqual(rests, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000])
    assert.equal(told.filter((line) => line.startsWith('open')).length, 1)
  })
  it('begins with a short rest again after it was closed', () => {
    const { breaker, pass } = bench()
    fail(breaker)
    pass(60_000)
    go(breaker).failed({ reason: 'still' })
    pass(60_000)
    go(breaker).succeeded()
    fail(breaker)
    assert.equal(breaker.restsMs, BREAKER_REST_FLOOR_MS)
  })
  it('lets another one probe when the first was given up', () => {
    const { breaker, told, pass } = bench()
    fail(breaker)
    pass(60_000)
    go(breaker).dropped()
    assert.deepEqual(told.slice(1), ['verdict'])
    go(breaker)
  })
  it('lets an urgent request through after the shortest rest', () => {
    const { breaker, pass } = bench()
    fail(breaker)
    pass(BREAKER_REST_FLOOR_MS)
    go(breaker).failed({ reason: 'still' })
    pass(BREAKER_REST_FLOOR_MS)
    assert.equal(breaker.begin(false), 'resting')
    go(breaker, true)
  })
  it('closes when a request from before succeeds, and is not opened by those that fail late', () => {
    const { breaker, told } = bench()
    const slow = go(breaker)
    const late = go(breaker)
    fail(breaker)
    late.failed({ reason: 'late' })
    assert.equal(breaker.reason, 'refused')
    slow.succeeded()
    go(breaker)
    assert.deepEqual(told.slice(1), ['close'])
  })
  it('is spread over half of the rest by chance', () => {
    const rest = (random: number): number | undefined => {
      const { breaker } = bench(random)
      fail(breaker)
      return breaker.restsMs
    }
    assert.equal(rest(0), BREAKER_REST_FLOOR_MS * 0.75)
    assert.equal(rest(0.999_999)! < BREAKER_REST_FLOOR_MS * 1.25, true)
  })
})

describe('breaker: any history', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('begin' as const), urgent: fc.boolean() }),
    fc.record({
      do: fc.constantFrom('succeed' as const, 'fail' as const, 'drop' as const),
      which: fc.nat(20),
    }),
    fc.record({ do: fc.constant('pass' as const), ms: fc.nat(BREAKER_REST_CEILING_MS) }),
  )
  it('has at most one probe, tells opening and closing in turn, and always lets someone through in the end', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (steps, random) => {
          const { breaker, told, pass } = bench(random)
          const open: Attempt[] = []
          const probes = new Set<Attempt>()
          for (const one of steps) {
            if (one.do === 'pass') pass(one.ms)
            else if (one.do === 'begin') {
              const isOpen = breaker.restsMs !== undefined
              const attempt = breaker.begin(one.urgent)
              if (typeof attempt === 'string') assert.ok(isOpen)
              else {
                if (isOpen) {
                  assert.equal(probes.size, 0)
                  probes.add(attempt)
                }
                open.push(attempt)
              }
            } else {
              const [attempt] = open.splice(one.which % Math.max(1, open.length), 1)
              if (attempt === undefined) continue
              if (one.do === 'succeed') attempt.succeeded()
              else if (one.do === 'drop') attempt.dropped()
              else attempt.failed({ reason: 'x' })
              probes.delete(attempt)
              if (one.do === 'succeed') assert.equal(breaker.restsMs, undefined)
            }
          }
          const turns = told.filter((line) => line !== 'verdict').map((line) => line.slice(0, 4))
          assert.deepEqual(
            turns,
            turns.map((_, i) => (i % 2 === 0 ? 'open' : 'clos')),
          )
          for (const attempt of open) attempt.dropped()
          pass(BREAKER_REST_CEILING_MS * 1.25)
          assert.equal(typeof breaker.begin(false), 'object')
        },
      ),
    )
  })
})
