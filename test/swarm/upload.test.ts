import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { UPLOAD_BURST_MS } from '../../src/limits.ts'
import { createSharedLine, createUpload } from '../../src/swarm/upload.ts'
import type { Upload } from '../../src/swarm/upload.ts'

const KIB = 1024
const options = { signal: new AbortController().signal }

/** Time that passes only when all wait for it, for as many threads as there are uploads. */
function machine(bytesPerSecond: number | undefined) {
  const line = createSharedLine(bytesPerSecond)
  const sleepers: { at: number; wake: () => void }[] = []
  const began = 10_000
  let now = began
  const wait = (ms: number): Promise<void> =>
    new Promise((wake) => {
      sleepers.push({ at: now + ms, wake })
    })
  return {
    now: (): number => now - began,
    thread: (): Upload => createUpload(line, { clock: () => now, wait }),
    /** Until nobody waits any more, or for so long. */
    run: async (until = Infinity): Promise<void> => {
      for (;;) {
        await turn()
        sleepers.sort((a, b) => a.at - b.at)
        const [next] = sleepers
        if (next === undefined || next.at > began + until) return
        sleepers.shift()
        now = Math.max(now, next.at)
        next.wake()
      }
    },
  }
}

test('so much goes out in a second, after a burst', async () => {
  const { thread, run, now } = machine(100 * KIB)
  const upload = thread()
  const done = Promise.all(Array.from({ length: 1000 }, async () => upload.take(KIB, 'a', options)))
  await run()
  await done
  // 1,000 KiB at 100 KiB/s are 10 s; the last of them is out as soon as it may begin.
  assert.ok(Math.abs(now() - (10_000 - UPLOAD_BURST_MS)) <= 10, `${now()} ms`)
  assert.equal(upload.total(), 1000 * KIB)
})

test('two threads keep to one rate, and get the same of it', async () => {
  const { thread, run } = machine(100 * KIB)
  const given = [0, 0]
  const threads = [thread(), thread()]
  for (const [i, upload] of threads.entries()) {
    for (let n = 0; n < 1000; n++) void upload.take(KIB, 'a', options)?.then(() => given[i]!++)
  }
  await run(5000)
  const [one = 0, other = 0] = given
  const expected = 100 * (5 + UPLOAD_BURST_MS / 1000)
  assert.ok(Math.abs(one + other - expected) <= 2, `${one} + ${other} of ${expected}`)
  assert.ok(Math.abs(one - other) <= 0.1 * expected, `${one} and ${other}`)
  assert.equal(threads[0]?.total(), (one + other) * KIB)
})

test('who wants much does not hold up who wants little', async () => {
  const { thread, run, now } = machine(100 * KIB)
  const upload = thread()
  for (let n = 0; n < 1000; n++) void upload.take(KIB, 'greedy', options)
  let modest: number | undefined
  void upload.take(KIB, 'modest', options)?.then(() => (modest = now()))
  await run()
  assert.ok(modest !== undefined && modest <= 100, `${modest} ms`)
})

test('who gives up takes nothing of the rate', async () => {
  const { thread, run, now } = machine(100 * KIB)
  const upload = thread()
  const gone = new AbortController()
  const given = upload.take(50 * KIB, 'a', options)
  const left = Array.from({ length: 100 }, () => upload.take(100 * KIB, 'a', { signal: gone.signal }))
  assert.ok(upload.backlogMs() > 90_000)
  gone.abort(new Error('the client has gone'))
  for (const one of left) await assert.rejects(async () => one, /the client has gone/)
  const last = upload.take(KIB, 'a', options)
  await run()
  await Promise.all([given, last])
  assert.ok(now() <= 500, `${now()} ms`)
  assert.equal(upload.total(), 51 * KIB)
})

test('without a rate nobody waits, and all is counted', () => {
  const upload = createUpload(createSharedLine(undefined))
  assert.equal(upload.take(1_000_000_000, 'a', options), undefined)
  assert.deepEqual([upload.total(), upload.backlogMs()], [1_000_000_000, 0])
})

test('a piece that is larger than the rate goes, and those behind it pay for it', async () => {
  const { thread, run, now } = machine(KIB)
  const upload = thread()
  const done = Promise.all([upload.take(1024 * KIB, 'a', options), upload.take(1, 'a', options)])
  await run()
  await done
  assert.ok(now() > 1_000_000 && now() < 1_030_000, `${now()} ms`)
})
