import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  DIAL_CANDIDATE_MS,
  DIAL_CANDIDATES_PER_SENDER_COUNT,
  DIAL_REST_FLOOR_MS,
  DIALS_AT_ONCE_COUNT,
  DIALS_PER_MINUTE_COUNT,
  HELLO_FRESH_MS,
  HELLO_NAMED_MS,
} from '../../src/limits.ts'
import { createDialBook } from '../../src/swarm/dial-book.ts'
import type { DialBook } from '../../src/swarm/dial-book.ts'

function bench(): { now: number; book: DialBook } {
  const time = { now: 1_000 }
  return Object.assign(time, { book: createDialBook({ stopwatch: () => time.now }) })
}

test('one that is heard is dialled once, and again when it is heard later', () => {
  const it = bench()
  it.book.heard('a', ['a1'], 's')
  const dial = it.book.next()
  assert.equal(dial?.address, 'a1')
  assert.equal(it.book.next(), undefined, 'it is under way')
  dial.done(true)
  it.now += HELLO_FRESH_MS - 1
  it.book.heard('a', ['a1'], 's')
  assert.equal(it.book.next(), undefined, 'greeted a moment ago')
  it.now += 1
  assert.equal(it.book.next()?.address, 'a1')
})

test('all its addresses are tried before it is left alone, the one told last first', () => {
  const it = bench()
  it.book.heard('a', ['old'], 's')
  it.book.heard('a', ['new', 'old'], 's')
  for (const address of ['new', 'old']) {
    const dial = it.book.next()
    assert.equal(dial?.address, address)
    dial?.done(false)
  }
  it.now += 1
  it.book.heard('a', ['new'], 's')
  assert.equal(it.book.next(), undefined)
  it.now += DIAL_REST_FLOOR_MS
  assert.equal(it.book.next()?.address, 'new')
})

test('one whose connection is gone is greeted as soon as it is heard', () => {
  const it = bench()
  it.book.heard('a', ['a1'], 's')
  it.book.next()?.done(true)
  it.now += 1
  it.book.gone('a')
  assert.equal(it.book.next(), undefined, 'heard, not guessed')
  it.book.heard('a', ['a1'], 's')
  assert.equal(it.book.next()?.address, 'a1')
})

test('one that greeted us needs no greeting of ours', () => {
  const it = bench()
  it.book.heard('a', ['a1'], 's')
  it.book.met('a')
  assert.equal(it.book.next(), undefined)
})

test('one that was named is dialled without being heard, until it is named no more', () => {
  const it = bench()
  it.book.name([{ peerId: 'a', address: 'a1' }])
  it.book.next()?.done(false)
  it.now += DIAL_REST_FLOOR_MS
  it.book.next()?.done(true)
  it.now += HELLO_NAMED_MS - 1
  assert.equal(it.book.next(), undefined)
  it.now += 1
  it.book.name([])
  assert.equal(it.book.next(), undefined)
})

test('ten thousand adverts cost a bounded number of dials a minute, and keep nobody out for good', () => {
  const it = bench()
  let dials = 0
  const dialAll = (): void => {
    for (let dial = it.book.next(); dial !== undefined; dial = it.book.next()) {
      dials += 1
      dial.done(false)
    }
  }
  for (let n = 0; n < 10_000; n++) {
    it.book.heard(`spoofed${n}`, [`a${n}`], `s${n % 1_000}`)
    dialAll()
  }
  assert.equal(dials, DIALS_PER_MINUTE_COUNT)
  it.now += 60_000
  it.book.heard('real', ['here'], 'quiet')
  const dialled: string[] = []
  for (let dial = it.book.next(); dial !== undefined; dial = it.book.next()) {
    dialled.push(dial.address)
    dial.done(false)
  }
  assert.ok(dialled.length <= DIALS_PER_MINUTE_COUNT)
  it.now += DIAL_CANDIDATE_MS + 1
  it.book.heard('later', ['there'], 'quiet')
  assert.equal(it.book.next()?.address, 'there')
})

test('one sender has few entries, and comes after those that say little', () => {
  const it = bench()
  for (let n = 0; n < 100; n++) it.book.heard(`n${n}`, [`n${n}`], 'loud')
  it.book.heard('a', ['a1'], 'quiet')
  const dialled: string[] = []
  for (let dial = it.book.next(); dial !== undefined; dial = it.book.next()) {
    dialled.push(dial.address)
    dial.done(true)
  }
  assert.equal(dialled.length, DIAL_CANDIDATES_PER_SENDER_COUNT + 1)
  assert.ok(dialled.indexOf('a1') <= 1)
})

test('few dials are under way at once', () => {
  const it = bench()
  for (let n = 0; n < 10; n++) it.book.heard(`n${n}`, [`n${n}`], `s${n}`)
  const begun = Array.from({ length: 10 }, () => it.book.next()).filter((dial) => dial !== undefined)
  assert.equal(begun.length, DIALS_AT_ONCE_COUNT)
  begun[0]?.done(true)
  assert.notEqual(it.book.next(), undefined)
})

test('one that greeted us is not pushed out by a flood', () => {
  const it = bench()
  it.book.heard('a', ['a1'], 's')
  it.book.next()?.done(true)
  for (let n = 0; n < 1_000; n++) it.book.heard(`spoofed${n}`, [`x${n}`], `s${n}`)
  it.now += 60_000
  it.book.heard('a', ['a1'], 's')
  assert.equal(it.book.next()?.address, 'a1')
})
