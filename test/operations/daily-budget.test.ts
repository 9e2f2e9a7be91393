import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { openDailyBudget } from '../../src/operations/daily-budget.ts'
import type { DailyBudget } from '../../src/operations/daily-budget.ts'
import { openDatabase } from '../../src/state/database.ts'
import { tempDir } from '../kit/temp.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const START = Date.UTC(2026, 5, 1)

/** A machine with true time, a wall clock that may be wrong, and a budget that restarts lose the memory of. */
function machine(path: string, maxBytes: number) {
  let now = 0
  let wallError = 0
  let bootedAt = 0
  let db = openDatabase(path, { synchronous: 'FULL' })
  const open = (): DailyBudget =>
    openDailyBudget(
      { db, clock: () => START + now + wallError, monotonic: () => now - bootedAt },
      { table: 'audit_day', maxBytes },
    )
  let budget = open()
  return {
    now: () => now,
    budget: () => budget,
    pass: (ms: number) => void (now += ms),
    setWall: (error: number) => void (wallError = error),
    restart(offMs = 0) {
      db.close()
      now += offMs
      bootedAt = now
      db = openDatabase(path, { synchronous: 'FULL' })
      budget = open()
    },
    close: () => db.close(),
  }
}

test('a day gives its bytes once, also over restarts', async (t) => {
  const it = machine(join(await tempDir(t), 'feeds.sqlite'), 100)
  t.after(() => it.close())
  it.pass(1)
  assert.ok(it.budget().take(60))
  assert.equal(it.budget().take(41), undefined)
  it.restart(HOUR)
  assert.equal(it.budget().leftBytes(), 40)
  assert.ok(it.budget().take(40))
  it.restart(22 * HOUR)
  assert.equal(it.budget().take(1), undefined)
  it.pass(HOUR)
  assert.equal(it.budget().spentBytes(), 0)
  assert.ok(it.budget().take(100))
})

test('what was not fetched comes back, but not on another day', async (t) => {
  const it = machine(join(await tempDir(t), 'feeds.sqlite'), 100)
  t.after(() => it.close())
  const first = it.budget().take(100)
  first?.giveBack(30)
  assert.equal(it.budget().leftBytes(), 30)
  const late = it.budget().take(30)
  it.pass(DAY)
  assert.ok(it.budget().take(50))
  late?.giveBack(30)
  assert.equal(it.budget().leftBytes(), 50)
})

test('a budget of nothing gives nothing', async (t) => {
  const it = machine(join(await tempDir(t), 'feeds.sqlite'), 0)
  t.after(() => it.close())
  assert.equal(it.budget().take(1), undefined)
})

test('a clock that begins in 1970 at every boot, or was years ahead once, gives no day away and ends none', async (t) => {
  const it = machine(join(await tempDir(t), 'feeds.sqlite'), 100)
  t.after(() => it.close())
  assert.ok(it.budget().take(100))
  for (let boot = 0; boot < 5; boot++) {
    it.setWall(-START)
    it.restart(60_000)
    assert.equal(it.budget().take(1), undefined)
    it.setWall(0)
    it.pass(60_000)
    assert.equal(it.budget().take(1), undefined)
  }
  it.setWall(-START)
  it.restart()
  it.pass(12 * HOUR)
  it.budget().take(0)
  it.setWall(0)
  it.restart()
  assert.equal(it.budget().take(1), undefined)
  it.setWall(10 * 365 * DAY)
  it.pass(1)
  assert.equal(it.budget().take(1), undefined)
  it.setWall(0)
  it.restart()
  assert.equal(it.budget().take(1), undefined)
  it.pass(DAY)
  assert.ok(it.budget().take(100))
})

test('no more than the budget a day, whatever the clock and restarts do', async (t) => {
  const dir = await tempDir(t)
  let files = 0
  const step = fc.oneof(
    fc.record({
      do: fc.constant('take' as const),
      bytes: fc.integer({ min: 1, max: 120 }),
      used: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 0, max: 30 * HOUR }) }),
    // To whatever while we run, and right again when we are started: what a clock says then is all there is.
    fc.record({
      do: fc.constant('wall' as const),
      error: fc.integer({ min: -60 * 365 * DAY, max: 60 * 365 * DAY }),
    }),
    fc.record({ do: fc.constant('restart' as const), offMs: fc.integer({ min: 0, max: 3 * DAY }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const max = 100
      const it = machine(join(dir, `${files++}.sqlite`), max)
      const spends: { at: number; bytes: number }[] = []
      try {
        for (const one of steps) {
          if (one.do === 'pass') it.pass(one.ms)
          else if (one.do === 'wall') {
            it.setWall(one.error)
            it.budget().leftBytes()
          } else if (one.do === 'restart') {
            it.setWall(0)
            it.restart(one.offMs)
          } else {
            const taken = it.budget().take(one.bytes)
            if (taken === undefined) continue
            const used = Math.floor(one.bytes * one.used)
            taken.giveBack(one.bytes - used)
            spends.push({ at: it.now(), bytes: used })
          }
        }
        // Days need not begin at the same hour each: any 24 hours touch two of them at most.
        for (const { at } of spends) {
          const within = spends.filter((other) => other.at >= at && other.at < at + DAY)
          const sum = within.reduce((bytes, other) => bytes + other.bytes, 0)
          assert.ok(sum <= 2 * max, `${sum} bytes within a day`)
        }
        const all = spends.reduce((bytes, { bytes: more }) => bytes + more, 0)
        assert.ok(all <= max * (Math.floor(it.now() / DAY) + 1), `${all} bytes in ${it.now()} ms`)
      } finally {
        it.close()
      }
    }),
    { numRuns: 200 },
  )
})

test('two budgets in one database are two', async (t) => {
  const db = openDatabase(join(await tempDir(t), 'feeds.sqlite'), { synchronous: 'FULL' })
  t.after(() => db.close())
  const deps = { db, clock: () => START, monotonic: () => 0 }
  const audits = openDailyBudget(deps, { table: 'audit_day', maxBytes: 100 })
  const relayed = openDailyBudget(deps, { table: 'relay_day', maxBytes: 100 })
  assert.ok(audits.take(60))
  assert.equal(relayed.leftBytes(), 100)
  assert.equal(openDailyBudget(deps, { table: 'audit_day', maxBytes: 100 }).leftBytes(), 40)
})
