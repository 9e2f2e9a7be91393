import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

const YOUNG_BYTES = 8 * 2 ** 20
/** Measured: 32 MiB gain nothing, and 2 MiB less than this. */
const COLLECTED_EACH_BYTES = 8 * 2 ** 20
/** A few rounds do; so many that a V8 which counts otherwise costs a few ms at most. */
const ROUNDS = 100
const OBJECTS_A_ROUND = 1000
const LOOKED_AT_EACH_MS = 2_000

/**
 * Sets V8 up for bytes on their way, which are garbage outside of its heap, 64 KiB at a time (docs/adr/011).
 *
 * By default V8 marks its whole heap for each 64 MiB of them, which took a third of all CPU while a NAR came over
 * bitswap. Counted towards the limit that is kept for the heap as a whole, they are collected when there is cause: bitswap
 * 119 to 150 MB/s and more, a fifth less CPU over HTTP. That limit is 2.25 times what was alive last time, where V8
 * by itself goes from 1.1 to 4 times: of the one a worker with a small heap collects all day, of the other memory grows by the garbage of
 * buffers that outlived two collections of the young space.
 *
 * The young space is small, and stays as it is. What was a buffer is freed with the object that names it, and in a young space of 32 MiB,
 * to which the mere loading of a program makes V8 go, such objects lie about by the thousand. But when V8 marks its heap in a
 * quiet moment it also cuts the young space down to 1 MiB, and a narinfo then costs 25 us of CPU instead of 20: so it is looked
 * at now and then.
 *
 * To be called once, first thing in a process, before what else it needs is imported.
 */
export function tuneGarbageCollector(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit')
  setFlagsFromString('--heap-growing-percent=125')
  growYoungSpace()
  setInterval(() => {
    if (youngBytes() < YOUNG_BYTES) growYoungSpace()
  }, LOOKED_AT_EACH_MS).unref()
}

/** V8 reads its flag for the most only when a heap is made; until then a heap grows after a collection that much outlived. */
function growYoungSpace(): void {
  setFlagsFromString('--semi-space-growth-factor=4')
  const outlived: object[] = []
  for (let round = 0; round < ROUNDS && youngBytes() < YOUNG_BYTES; round++) {
    for (let i = 0; i < OBJECTS_A_ROUND; i++) outlived.push({ i, at: [i] })
  }
  setFlagsFromString('--semi-space-growth-factor=1')
}

function youngBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? Infinity
}

/**
 * Collects the young space of this thread for each 8 MiB that came, in 0.3 ms. V8 itself does so for each
 * 50 MB or so: by then the limit for the whole heap is reached, all of it is marked, and each buffer was memory that had to
 * be mapped (docs/adr/011).
 *
 * @returns to be told of bytes that came; does nothing where V8 has no such function
 */
export function createYoungCollector(): (bytes: number) => void {
  let collect: CollectYoung | undefined
  let came = 0
  return (bytes) => {
    came += bytes
    if (came < COLLECTED_EACH_BYTES) return
    came = 0
    // Not before it is needed: any second context slows all of the thread, 2 us a narinfo.
    collect ??= findCollector()
    collect()
  }
}

type CollectYoung = () => void

/** V8 gives the function to each context that is made after its flag was set. */
function findCollector(): CollectYoung {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('globalThis.gc') as ((how: { type: 'minor' }) => void) | undefined
  return () => gc?.({ type: 'minor' })
}
