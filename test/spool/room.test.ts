import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import * as fc from 'fast-check'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { SPOOL_IN_USE_MS, SPOOL_PART_MAX_AGE_MS } from '../../src/limits.ts'
import { SpoolWriteError } from '../../src/spool/errors.ts'
import { spoolLimits } from '../../src/spool/quota.ts'
import type { Spool } from '../../src/spool/spool.ts'
import { collect, noise, options, pathIn, planOf, spoolBench, store, type Bench } from './kit.ts'

const KIB = 1024

interface Timed extends Bench {
  /** Time goes on until nobody counts as reading any more. */
  readonly later: () => void
  readonly gone: string[]
}

async function bounded(
  t: TestContext,
  maxBytes: number,
  disk?: { minFreeBytes: number; free: () => number },
): Promise<Timed> {
  let now = 1_000_000
  const gone: string[] = []
  const bench = await spoolBench(t, {
    clock: () => now,
    limits: { maxBytes, minFreeBytes: disk?.minFreeBytes ?? 0 },
    freeBytes: disk?.free ?? (() => 2 ** 40),
    evicted: (narHash) => gone.push(narHash),
  })
  const later = (): void => {
    now += SPOOL_IN_USE_MS + 1
  }
  return { ...bench, gone, later }
}

const nar = (name: string, kib: number): Buffer => noise(kib * KIB, name)

test('a NAR that comes in takes the place of the least recently used ones', async (t) => {
  const { spool, dir, gone, later } = await bounded(t, 100 * KIB)
  const stored = []
  for (const [name, kib] of [
    ['a', 35],
    ['b', 30],
    ['c', 30],
  ] as const) {
    stored.push((await store(spool, nar(name, kib))).narHash)
    later()
  }
  await collect(spool.read(stored[1] ?? assert.fail(), { start: 0, end: 10 }, options))
  const { narHash } = await store(spool, nar('d', 38))
  assert.deepEqual(gone, [stored[0]])
  assert.equal(spool.has(narHash), true)
  await assert.rejects(stat(pathIn(dir, stored[0] ?? '')), { code: 'ENOENT' })
  assert.deepEqual(spool.totals(), { count: 3, bytes: 98 * KIB })
  assert.equal(spool.usage().evicted, 1)
  assert.equal(spool.usage().evictedBytes, 35 * KIB)
})

test('what is on its way is counted with its whole size', async (t) => {
  const { spool, gone, later } = await bounded(t, 100 * KIB)
  await store(spool, nar('old', 50))
  later()
  const file = await spool.create(planOf(nar('a', 60)))
  assert.equal(gone.length, 1)
  await file.abandon(new Error('enough'))
})

test('what is being read is not evicted, and reads on', async (t) => {
  const { spool, gone, later } = await bounded(t, 3 * LEAF_BYTES)
  const bytes = noise(2 * LEAF_BYTES, 'read')
  const { narHash, narSize } = await store(spool, bytes)
  later()
  const reading = spool.read(narHash, { start: 0, end: narSize }, options)[Symbol.asyncIterator]()
  const first = (await reading.next()).value as Uint8Array
  later()
  await store(spool, noise(2 * LEAF_BYTES, 'new'))
  assert.deepEqual(gone, [])
  const rest = await collect({ [Symbol.asyncIterator]: () => reading })
  assert.equal(Buffer.compare(Buffer.concat([first, rest]), bytes), 0)
  assert.equal(spool.totals().count, 2)
  later()
  await spool.trim()
  assert.deepEqual(gone, [narHash])
})

test('a reader that follows the writer has the bytes after commit, though the NAR is larger than the quota', async (t) => {
  const { spool, gone, later } = await bounded(t, LEAF_BYTES)
  const kept = await store(spool, nar('kept', 10))
  later()
  const bytes = noise(3 * LEAF_BYTES, 'large')
  const plan = planOf(bytes)
  const file = await spool.create(plan)
  await file.append(bytes)
  const reading = file.read({ start: 0, end: 2 * LEAF_BYTES }, options)[Symbol.asyncIterator]()
  await reading.next()
  await file.commit()
  later()
  await spool.trim()
  assert.deepEqual(gone, [])
  await collect({ [Symbol.asyncIterator]: () => reading })
  await spool.trim()
  const rest = await collect(file.read({ start: 2 * LEAF_BYTES, end: plan.narSize }, options))
  assert.equal(Buffer.compare(rest, bytes.subarray(2 * LEAF_BYTES)), 0)
  later()
  await spool.trim()
  // It went, and nothing went for it.
  assert.deepEqual(gone, [plan.narHash])
  assert.equal(spool.has(kept.narHash), true)
})

test('a pinned NAR stays and takes nobody else’s place', async (t) => {
  const { spool, gone, later } = await bounded(t, 100 * KIB)
  const pinned = await store(spool, nar('pinned', 90))
  spool.pin(pinned.narHash)
  later()
  const other = await store(spool, nar('other', 90))
  later()
  await spool.trim({ maxBytes: 0 })
  assert.deepEqual(gone, [other.narHash])
  assert.equal(spool.has(pinned.narHash), true)
  assert.equal(spool.usage().pinnedBytes, 90 * KIB)
  // Written anew it is pinned still.
  await store(spool, nar('pinned', 90))
  later()
  await spool.trim({ maxBytes: 0 })
  assert.equal(spool.has(pinned.narHash), true)
})

test('below the floor others go first, then a NAR is refused before its first byte, told once', async (t) => {
  let other = 0
  const minFreeBytes = 50 * KIB
  const used = (spool: Spool): number => spool.totals().bytes
  const bench = await bounded(t, 2 ** 40, {
    minFreeBytes,
    free: () => 200 * KIB - used(bench.spool) - other,
  })
  const { spool, gone, later, log } = bench
  const first = await store(spool, nar('a', 100))
  const second = await store(spool, nar('b', 50))
  // Both were used just now; but else the NAR could not come.
  await store(spool, nar('c', 90))
  assert.deepEqual(gone, [first.narHash])
  later()
  other = 120 * KIB
  for (const name of ['d', 'e', 'f']) {
    await assert.rejects(spool.create(planOf(nar(name, 60))), (error: Error) => {
      return (
        error instanceof SpoolWriteError && /61440 and spool.min_free \(51200 bytes\)/.test(error.message)
      )
    })
  }
  assert.equal(log.lines.filter(({ level }) => level === 'error').length, 1)
  assert.equal(gone.includes(second.narHash), true)
  assert.deepEqual(spool.totals(), { count: 0, bytes: 0 })
  // Nobody is left waiting for a writer that never was.
  other = 0
  await store(spool, nar('d', 60))
})

test('kept parts are counted, evicted like NARs, and go by themselves when they are old', async (t) => {
  const { spool, later } = await bounded(t, 3 * LEAF_BYTES)
  const bytes = noise(2 * LEAF_BYTES, 'part')
  const plan = planOf(bytes)
  const keepPart = async (): Promise<void> => {
    const file = await spool.create(plan)
    await file.append(bytes.subarray(0, LEAF_BYTES))
    await file.abandon(new Error('later'), true)
  }
  await keepPart()
  assert.deepEqual([spool.usage().parts, spool.usage().partBytes], [1, LEAF_BYTES])
  later()
  await store(spool, noise(3 * LEAF_BYTES, 'nar'))
  assert.equal(spool.usage().parts, 0)
  later()
  await keepPart()
  assert.equal(spool.usage().parts, 1)
  assert.deepEqual(await spool.expireParts(1_000_000), [])
  const [old] = await spool.expireParts(Date.now() + SPOOL_PART_MAX_AGE_MS)
  assert.deepEqual(old, { kind: 'part', narHash: plan.narHash, bytes: LEAF_BYTES })
  assert.equal(spool.usage().parts, 0)
})

test('after any sequence the sums are those of the files, and idle NARs are within the quota', async (t) => {
  const maxBytes = 100 * KIB
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.record({
            do: fc.constant('store' as const),
            name: fc.nat(9),
            kib: fc.integer({ min: 1, max: 150 }),
          }),
          fc.record({ do: fc.constantFrom('read' as const, 'remove' as const), name: fc.nat(9) }),
          fc.record({ do: fc.constantFrom('later' as const, 'trim' as const) }),
        ),
        { maxLength: 15 },
      ),
      async (steps) => {
        const { spool, dir, later } = await bounded(t, maxBytes)
        const known = new Map<number, ReturnType<typeof planOf>>()
        for (const step of steps) {
          switch (step.do) {
            case 'store':
              known.set(step.name, await store(spool, nar(`${step.name} ${step.kib}`, step.kib)))
              break
            case 'later':
              later()
              break
            case 'trim':
              await spool.trim()
              break
            default: {
              const plan = known.get(step.name)
              if (plan === undefined || !spool.has(plan.narHash)) continue
              if (step.do === 'remove') await spool.remove(plan.narHash)
              else await collect(spool.read(plan.narHash, { start: 0, end: 5 }, options))
            }
          }
        }
        const sizes = await sizesIn(dir)
        assert.deepEqual(spool.totals(), { count: sizes.length, bytes: sizes.reduce((a, b) => a + b, 0) })
        later()
        await spool.trim()
        const { bytes } = spool.totals()
        assert.ok(bytes <= maxBytes, `${bytes}`)
        assert.equal(
          bytes,
          (await sizesIn(dir)).reduce((a, b) => a + b, 0),
        )
      },
    ),
    { numRuns: 25 },
  )
})

async function sizesIn(dir: string): Promise<number[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return Promise.all(files.map(async ({ parentPath, name }) => (await stat(`${parentPath}/${name}`)).size))
}

test('the default limits are a share of a small disk, and what the user says is taken', async (t) => {
  const { dir } = await spoolBench(t)
  const { maxBytes, minFreeBytes } = spoolLimits(dir, { maxBytes: undefined, minFreeBytes: undefined })
  assert.ok(maxBytes > 0 && maxBytes <= 20 * 2 ** 30, `${maxBytes}`)
  assert.ok(minFreeBytes > 0 && minFreeBytes <= 4 * 2 ** 30, `${minFreeBytes}`)
  assert.deepEqual(spoolLimits(dir, { maxBytes: 0, minFreeBytes: 7 }), { maxBytes: 0, minFreeBytes: 7 })
})
