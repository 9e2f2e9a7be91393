import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  CODED_BELOW_BYTES_PER_S,
  CODED_ON_LOOPBACK_BELOW_BYTES_PER_S,
  CODED_UNTIL_FACTOR,
  LINK_SAMPLE_BYTES,
  LINK_SAMPLE_MS,
} from '../../src/limits.ts'
import { createLinkPace } from '../../src/swarm/link-pace.ts'

const CODED_UNTIL = CODED_UNTIL_FACTOR * CODED_BELOW_BYTES_PER_S

function link(isOnLoopback = false) {
  let now = 0
  const pace = createLinkPace({ clock: () => now }, { isOnLoopback })
  return {
    pace,
    wait: (ms: number) => void (now += ms),
    /** One body, large enough for a sample. */
    carry: (bytesPerS: number): void => {
      const bytes = Math.max(LINK_SAMPLE_BYTES, (bytesPerS * LINK_SAMPLE_MS) / 999)
      pace.began()
      now += (bytes / bytesPerS) * 1000
      pace.came(bytes)
      pace.ended()
    },
  }
}

test('a link that nobody has measured counts as slow, and nothing is said of it', () => {
  const { pace } = link()
  assert.equal(pace.isSlow(), true)
  assert.equal(pace.bytesPerS(), undefined)
})

test('loopback counts as quick until it is measured, and as slow below a lower limit alone', () => {
  const { pace, carry } = link(true)
  assert.deepEqual([pace.isSlow(), pace.bytesPerS()], [false, undefined])
  carry(CODED_ON_LOOPBACK_BELOW_BYTES_PER_S * 1.01)
  assert.equal(pace.isSlow(), false)
  carry(CODED_ON_LOOPBACK_BELOW_BYTES_PER_S * 0.99)
  assert.equal(pace.isSlow(), true)
  carry(CODED_ON_LOOPBACK_BELOW_BYTES_PER_S * CODED_UNTIL_FACTOR * 1.01)
  assert.equal(pace.isSlow(), false)
})

test('between the two limits a link stays what it was', () => {
  const { pace, carry } = link()
  const between = (CODED_BELOW_BYTES_PER_S + CODED_UNTIL) / 2
  carry(between)
  assert.equal(pace.isSlow(), true)
  assert.equal(Math.round(pace.bytesPerS() ?? 0), between)
  carry(CODED_UNTIL * 1.01)
  assert.equal(pace.isSlow(), false)
  carry(between)
  assert.equal(pace.isSlow(), false)
  carry(CODED_BELOW_BYTES_PER_S * 0.99)
  assert.equal(pace.isSlow(), true)
})

test('time in which no body comes is not the time of the link', () => {
  const { pace, wait, carry } = link()
  carry(1e9)
  wait(60_000)
  carry(1e9)
  assert.equal(Math.round(pace.bytesPerS() ?? 0), 1e9)
})

test('bodies that end in the same moment, after a busy one, do not make a link quick', () => {
  const { pace, wait } = link()
  for (let at = 0; at < 8; at++) pace.began()
  wait(1_000)
  for (let at = 0; at < 8; at++) {
    pace.came(LINK_SAMPLE_BYTES)
    pace.ended()
  }
  assert.equal(pace.isSlow(), true)
  wait(60_000)
  // The other seven are counted with what comes next.
  pace.began()
  wait(1_000)
  pace.came(LINK_SAMPLE_BYTES)
  pace.ended()
  assert.equal(pace.bytesPerS(), 8 * LINK_SAMPLE_BYTES)
})

test('small bodies are judged together', () => {
  const { pace, wait } = link()
  for (let at = 0; at < 1_000; at++) {
    assert.equal(pace.bytesPerS(), undefined)
    pace.began()
    wait(1)
    pace.came(LINK_SAMPLE_BYTES / 1_000 - 1)
    pace.ended()
  }
})
