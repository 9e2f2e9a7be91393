import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HEDGE_CEILING_MS, HEDGE_FLOOR_MS, HEDGE_SAMPLES_COUNT, HEDGE_START_MS } from '../../src/limits.ts'
import { createFirstBytes } from '../../src/substitute/first-bytes.ts'

describe('the patience for a first byte', () => {
  it('is a fixed one before anything is known', () => {
    const firstBytes = createFirstBytes()
    assert.equal(firstBytes.delayMs(), HEDGE_START_MS)
    firstBytes.came(1)
    assert.equal(firstBytes.delayMs(), HEDGE_START_MS)
  })
  it('is the p80 of the last ones', () => {
    const firstBytes = createFirstBytes()
    for (let i = 1; i <= 10; i++) firstBytes.came(i * 100)
    assert.equal(firstBytes.delayMs(), 800)
    for (let i = 0; i < HEDGE_SAMPLES_COUNT; i++) firstBytes.came(300)
    assert.equal(firstBytes.delayMs(), 300)
  })
  it('stays within bounds', () => {
    const [quick, slow] = [createFirstBytes(), createFirstBytes()]
    for (let i = 0; i < 10; i++) {
      quick.came(1)
      slow.came(60_000)
    }
    assert.equal(quick.delayMs(), HEDGE_FLOOR_MS)
    assert.equal(slow.delayMs(), HEDGE_CEILING_MS)
  })
  it('gets out of its floor when nothing comes in time', () => {
    const firstBytes = createFirstBytes()
    for (let i = 0; i < HEDGE_SAMPLES_COUNT; i++) firstBytes.came(1)
    for (let i = 0; i < HEDGE_SAMPLES_COUNT; i++) firstBytes.missed(400)
    assert.equal(firstBytes.delayMs(), 400)
  })
  it('is not made shorter by those who refuse at once', () => {
    const firstBytes = createFirstBytes()
    for (let i = 0; i < 10; i++) firstBytes.came(700)
    for (let i = 0; i < HEDGE_SAMPLES_COUNT; i++) firstBytes.missed(1)
    assert.equal(firstBytes.delayMs(), 700)
  })
})
