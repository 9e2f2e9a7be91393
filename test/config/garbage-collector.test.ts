import assert from 'node:assert/strict'
import { constants, PerformanceObserver } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'
import { test } from 'node:test'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createYoungCollector, tuneGarbageCollector } from '../../src/config/garbage-collector.ts'

const MIB = 2 ** 20

interface GcEntry {
  readonly detail: { readonly kind: number; readonly flags: number }
}

test('the young space is collected for each 8 MiB that came, and the rest of the heap is left alone', async (t) => {
  const kinds: number[] = []
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind, flags } = (entry as unknown as GcEntry).detail
      // V8 collects on its own account, too.
      if ((flags & constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) !== 0) kinds.push(kind)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  t.after(() => observer.disconnect())
  const told = async (): Promise<number[]> => {
    await setImmediate()
    await setImmediate()
    return kinds.splice(0)
  }
  const received = createYoungCollector()
  await told()
  for (let i = 0; i < 7; i++) received(MIB)
  assert.deepEqual(await told(), [])
  received(MIB)
  assert.deepEqual(await told(), [constants.NODE_PERFORMANCE_GC_MINOR])
  for (let i = 0; i < 24; i++) received(MIB)
  assert.deepEqual(
    await told(),
    Array.from({ length: 3 }, () => constants.NODE_PERFORMANCE_GC_MINOR),
  )
})

test('a young space that V8 cut down in a quiet moment has its size again soon', (t) => {
  const youngMiB = (): number =>
    (getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')?.space_size ?? 0) / MIB
  t.mock.timers.enable({ apis: ['setInterval'] })
  tuneGarbageCollector()
  assert.ok(youngMiB() >= 8)
  setFlagsFromString('--expose-gc')
  const collectAll = runInNewContext('gc') as (how: { type: 'major'; flavor: 'last-resort' }) => void
  collectAll({ type: 'major', flavor: 'last-resort' })
  assert.ok(youngMiB() < 8, `V8 cuts it down no more: ${youngMiB()} MiB`)
  t.mock.timers.tick(2_000)
  assert.ok(youngMiB() >= 8, `${youngMiB()} MiB`)
})
