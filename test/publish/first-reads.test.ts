import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import type { NarPlan } from '../../src/dag/planner.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { FIRST_READ_RANGE_DEADLINE_MS, HELD_BACK_BYTES } from '../../src/limits.ts'
import { createFirstReads } from '../../src/publish/first-reads.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { recordingLog } from '../kit/log.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { flipped, KIB, narInfoOf } from '../substitute/kit.ts'
import { memoryStore } from './memory-store.ts'

const nar = noise(5 * LEAF_BYTES + 777)
const plan = planOf(nar)
const info = narInfoOf(plan)
const whole = { start: 0, end: nar.length }

function reading(bytes: Uint8Array = nar) {
  const store = memoryStore()
  store.add(info, bytes)
  const proved: NarPlan[] = []
  const log = recordingLog()
  let now = 1_000_000
  const reads = createFirstReads({ store, proved: (_, one) => proved.push(one), clock: () => now, log })
  return { store, reads, proved, log, pass: (ms: number) => (now += ms) }
}

/** What came of it until it ended, and how it ended. */
async function outcome(chunks: AsyncIterable<Uint8Array>): Promise<{ bytes: Buffer; error: unknown }> {
  const got: Uint8Array[] = []
  try {
    for await (const chunk of chunks) got.push(chunk)
    return { bytes: Buffer.concat(got), error: undefined }
  } catch (error) {
    return { bytes: Buffer.concat(got), error }
  }
}

describe('a NAR of the store that is read for the first time', () => {
  it('goes out as it is read, each leaf once, and its plan is there at the end', async () => {
    const { store, reads, proved } = reading()
    assert.ok((await collect(reads.read(info, whole, options))).equals(nar))
    assert.deepEqual(
      store.reads.map(({ start }) => start / LEAF_BYTES),
      [0, 1, 2, 3, 4, 5],
    )
    assert.equal(proved.length, 1)
    assert.deepEqual(proved[0], plan)
  })

  it('gives its first leaf before the second is read', async () => {
    const { store, reads } = reading()
    const chunks = reads.read(info, whole, options)
    assert.equal((await chunks.next()).value?.length, LEAF_BYTES)
    assert.equal(store.reads.length, 1)
    await chunks.return()
  })

  it('is read once for all who begin together', async () => {
    const { store, reads, proved } = reading()
    const got = await Promise.all([1, 2, 3].map(() => collect(reads.read(info, whole, options))))
    assert.ok(got.every((bytes) => bytes.equals(nar)))
    assert.equal(store.reads.length, 6)
    assert.equal(proved.length, 1)
  })

  it('goes on where it was when its reader left and another comes', async () => {
    const { store, reads } = reading()
    const first = reads.read(info, whole, options)
    for (let leaf = 0; leaf < 3; leaf++) await first.next()
    await first.return()
    await reads.finish(info, () => Promise.resolve(), options)
    assert.deepEqual(
      store.reads.map(({ start }) => start / LEAF_BYTES),
      [0, 1, 2, 3, 4, 5],
    )
  })

  it('gives any range, to late readers too', async () => {
    const { reads } = reading()
    const bound = fc.integer({ min: 0, max: nar.length })
    await fc.assert(
      fc.asyncProperty(bound, bound, async (a, b) => {
        const range = { start: Math.min(a, b), end: Math.max(a, b) }
        const bytes = await collect(reads.read(info, range, options))
        assert.ok(bytes.equals(nar.subarray(range.start, range.end)))
      }),
      { numRuns: 25 },
    )
  })

  it('gives nothing of the middle before all of it is proved', async () => {
    const { store, reads, proved } = reading()
    const chunks = reads.read(info, { start: LEAF_BYTES, end: LEAF_BYTES + 10 }, options)
    await chunks.next()
    assert.equal(proved.length, 1)
    assert.equal(store.reads.length, 6 + 1)
  })

  it('does not let a range wait for ever, and keeps what was hashed by then', async (t) => {
    t.mock.method(AbortSignal, 'timeout', (ms: number) => {
      assert.equal(ms, FIRST_READ_RANGE_DEADLINE_MS)
      return AbortSignal.abort()
    })
    const { store, reads } = reading()
    const asked = { start: LEAF_BYTES, end: nar.length }
    await reads.read(info, whole, options).next()
    await assert.rejects(collect(reads.read(info, asked, options)), /1 of 6 leaves are hashed/)
    assert.equal(store.reads.length, 1)
    assert.equal(reads.isBad(info.narHash), false)
  })

  for (const [title, at] of [
    ['first leaf', 0],
    ['last bytes', nar.length - 1],
  ] as const) {
    it(`with other bytes in its ${title} never comes whole, and is not offered for a while`, async () => {
      const wrong = Buffer.from(nar)
      wrong[at]! ^= 1
      const { reads, proved, log, pass } = reading(wrong)
      const { bytes, error } = await outcome(reads.read(info, whole, options))
      assert.ok(error instanceof BlockUnavailableError)
      assert.equal(bytes.length, nar.length - HELD_BACK_BYTES)
      assert.deepEqual(proved, [])
      assert.equal(reads.isBad(info.narHash), true)
      assert.equal(log.lines.length, 1)
      pass(24 * 3600_000)
      assert.equal(reads.isBad(info.narHash), false)
    })
  }

  it('that is collected in the middle is cut, and before its first byte a failure', async () => {
    const { store, reads } = reading()
    const chunks = reads.read(info, whole, options)
    await chunks.next()
    store.collect(info.storePath)
    await assert.rejects(chunks.next(), BlockUnavailableError)
    await assert.rejects(reads.read(info, whole, options).next(), BlockUnavailableError)
    // It may be back the next moment.
    assert.equal(reads.isBad(info.narHash), false)
  })

  it('that changes behind the first reader is cut for the second', async () => {
    const { store, reads } = reading()
    const first = reads.read(info, whole, options)
    for (let leaf = 0; leaf < 3; leaf++) await first.next()
    const second = reads.read(info, whole, options)
    await second.next()
    store.damage(info.storePath, flipped(nar))
    const { bytes, error } = await outcome(second)
    assert.ok(error instanceof BlockUnavailableError)
    assert.ok(bytes.length < 3 * LEAF_BYTES)
  })

  it('ends for a reader that is aborted, and for nobody else', async () => {
    const { reads, proved } = reading()
    const gone = new AbortController()
    const chunks = reads.read(info, whole, { signal: gone.signal })
    const other = collect(reads.read(info, whole, options))
    await chunks.next()
    gone.abort(new Error('left'))
    await assert.rejects(chunks.next(), /left/)
    assert.ok((await other).equals(nar))
    assert.equal(proved.length, 1)
  })

  it('ends for all when narswarm closes', async () => {
    const { reads } = reading()
    const chunks = reads.read(info, whole, options)
    await chunks.next()
    reads.close()
    await assert.rejects(chunks.next(), /closing/)
  })
})

describe('a small NAR of the store', () => {
  for (const size of [96, 300 * KIB, LEAF_BYTES]) {
    const bytes = noise(size)
    const small = narInfoOf(planOf(bytes))
    it(`of ${size} bytes is hashed before any of it goes out`, async () => {
      const { store, reads } = reading()
      store.add(small, bytes)
      assert.ok((await collect(reads.read(small, { start: 0, end: size }, options))).equals(bytes))
      const other = reading()
      other.store.add(small, flipped(bytes))
      const { bytes: came, error } = await outcome(other.reads.read(small, { start: 0, end: size }, options))
      assert.equal(came.length, 0)
      assert.ok(error instanceof BlockUnavailableError)
    })
  }
})
