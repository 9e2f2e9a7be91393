import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

const YOUNG_BYTES = 8 * 2 ** 20
/** A few rounds do; so many that a V8 which counts otherwise costs a few ms at most. */
const ROUNDS = 100
const OBJECTS_A_ROUND = 1000

/**
 * Sets V8 up for bytes on their way, which are garbage outside of its heap, 64 KiB at a time (docs/adr/011).
 *
 * By default V8 marks its whole heap for each 64 MiB of them, which took a third of all CPU while a NAR came over
 * bitswap. Counted towards the limit that is kept for the heap as a whole, they are collected when there is cause: bitswap
 * 119 to 150 MB/s and more, a fifth less CPU over HTTP. That limit is 2.25 times what was alive last time, where V8
 * by itself goes from 1.1 to 4 times: of the one a worker with a small heap collects all day, of the other memory grows by the garbage of
 * buffers that outlived two collections of the young space.
 *
 * The young space stays small. What was a buffer is freed with the object that names it, and in a young space of 32 MiB,
 * to which the mere loading of a program makes V8 go, such objects lie about by the thousand.
 *
 * To be called once, first thing in a process, before what else it needs is imported.
 */
export function tuneGarbageCollector(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit')
  setFlagsFromString('--heap-growing-percent=125')
  growYoungSpace()
  setFlagsFromString('--semi-space-growth-factor=1')
}

/** V8 reads its flag for the most only when a heap is made; until then a heap grows after a collection that much outlived. */
function growYoungSpace(): void {
  setFlagsFromString('--semi-space-growth-factor=4')
  const outlived: object[] = []
  for (let round = 0; round < ROUNDS && youngBytes() < YOUNG_BYTES; round++) {
    for (let i = 0; i < OBJECTS_A_ROUND; i++) outlived.push({ i, at: [i] })
  }
}

function youngBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? Infinity
}
