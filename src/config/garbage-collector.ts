import { setFlagsFromString } from 'node:v8'

/**
 * Bytes on their way are garbage outside of V8's heap, 64 KiB at a time. By default V8 marks its whole heap for each
 * 64 MiB of them, which took a third of all CPU while a NAR came over bitswap. Counted towards the limit that is kept for
 * the heap as a whole, they are collected when there is cause: bitswap 119 to 150 MB/s and more, a fifth less CPU over
 * HTTP. The price is some 50 MB of memory (docs/adr/011).
 *
 * To be called once, first thing in a process.
 */
export function tuneGarbageCollector(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit')
}
