import { LEAF_BYTES } from './profile.ts'

/**
 * Buffers of one leaf each, lent and given back. Measured: a process that serves leaves spends half its time on making,
 * faulting in and collecting fresh ones.
 *
 * Who gives a buffer back must be sure that nobody reads or writes it any more; who is not sure lets it go, and the
 * garbage collector has it.
 */
export interface LeafBuffers {
  /** LEAF_BYTES long, with whatever was in it. */
  take(): Uint8Array
  /** The buffer, or any view of one that was taken. */
  give(bytes: Uint8Array): void
}

/** @param keep how many lie ready at most */
export function createLeafBuffers(keep: number): LeafBuffers {
  const ready: ArrayBufferLike[] = []
  return {
    take: () => new Uint8Array(ready.pop() ?? Buffer.allocUnsafeSlow(LEAF_BYTES).buffer),
    give({ buffer }) {
      if (buffer.byteLength === LEAF_BYTES && ready.length < keep && !ready.includes(buffer))
        ready.push(buffer)
    },
  }
}
