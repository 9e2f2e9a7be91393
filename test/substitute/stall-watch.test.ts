import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { FIRST_PROGRESS_MS, WAY_PROGRESS_BYTES, WAY_STALL_MS } from '../../src/limits.ts'
import { WayStalledError } from '../../src/substitute/errors.ts'
import { watchForStall } from '../../src/substitute/stall-watch.ts'

/** Time that passes by hand, a quarter of a second a step. */
function watching(t: TestContext, isOther: () => Promise<boolean> = async () => true) {
  t.mock.timers.enable({ apis: ['setInterval', 'Date'] })
  const state = { prefix: 0, looked: 0 }
  const watch = watchForStall('way', {
    clock: () => Date.now(),
    prefix: () => state.prefix,
    isOther: () => {
      state.looked += 1
      return isOther()
    },
  })
  const pass = async (ms: number, step: () => void = () => {}): Promise<void> => {
    for (let at = 0; at < ms; at += 250) {
      step()
      t.mock.timers.tick(250)
      await Promise.resolve()
      await Promise.resolve()
    }
  }
  return { state, watch, pass }
}

describe('stall watch', () => {
  it('gives up a way that does not begin', async (t) => {
    const { watch, pass } = watching(t)
    await pass(FIRST_PROGRESS_MS)
    assert.equal(watch.signal.aborted, false)
    await pass(500)
    assert.ok(watch.signal.reason instanceof WayStalledError)
  })
  it('is more patient with one that has begun', async (t) => {
    const { state, watch, pass } = watching(t)
    await pass(FIRST_PROGRESS_MS - 250)
    state.prefix = WAY_PROGRESS_BYTES
    await pass(WAY_STALL_MS)
    assert.equal(watch.signal.aborted, false)
    await pass(750)
    assert.equal(watch.signal.aborted, true)
  })
  it('takes a block for progress, though the next in order is missing', async (t) => {
    const { watch, pass } = watching(t)
    await pass(10 * WAY_STALL_MS, () => watch.delivered())
    assert.equal(watch.signal.aborted, false)
  })
  it('does not take a trickle for progress', async (t) => {
    const { state, watch, pass } = watching(t)
    await pass(WAY_STALL_MS + 750, () => (state.prefix += 1))
    assert.equal(watch.signal.aborted, true)
  })
  it('stays with the only way there is, and asks once whether it is', async (t) => {
    const { state, watch, pass } = watching(t, async () => false)
    await pass(20 * WAY_STALL_MS)
    assert.equal(watch.signal.aborted, false)
    assert.equal(state.looked, 1)
  })
  it('asks for no other way while all is well', async (t) => {
    const { state, pass } = watching(t)
    await pass(20 * WAY_STALL_MS, () => (state.prefix += WAY_PROGRESS_BYTES / 8))
    assert.equal(state.looked, 0)
  })
  it('stays when it cannot be told whether there is another', async (t) => {
    const { watch, pass } = watching(t, () => Promise.reject(new Error('database is locked')))
    await pass(20 * WAY_STALL_MS)
    assert.equal(watch.signal.aborted, false)
  })
  it('does nothing after its end', async (t) => {
    const { state, watch, pass } = watching(t)
    watch.stop()
    await pass(20 * WAY_STALL_MS)
    assert.equal(watch.signal.aborted, false)
    assert.equal(state.looked, 0)
  })
})
