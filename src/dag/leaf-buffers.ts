import type { PieceBuffers } from '../source.ts'
import { LEAF_BYTES } from './profile.ts'

/**
 * Buffers of one leaf each, lent and given back. Measured: a process that serves leaves spends half its time on making,
 * faulting in and collecting fresh ones.
 *
 * Who gives a buffer back must be sure that nobody reads or writes it any more; who is not sure lets it go, and the
 * garbage collector has it.
 */
export interface LeafBuffers extends PieceBuffers {
  /** Whether these bytes lie in a buffer that was taken and not given back. */
  isLent(bytes: Uint8Array): boolean
}

/** @param keep how many lie ready at most */
export function createLeafBuffers(keep: number): LeafBuffers {
  const ready: ArrayBufferLike[] = []
  const lent = new WeakSet<ArrayBufferLike>()
  return {
    size: LEAF_BYTES,
    take() {
      const buffer = ready.pop() ?? Buffer.allocUnsafeSlow(LEAF_BYTES).buffer
      lent.add(buffer)
      return new Uint8Array(buffer)
    },
    isLent: ({ buffer }) => lent.has(buffer),
    give({ buffer }) {
      if (lent.delete(buffer) && ready.length < keep) ready.push(buffer)
    },
  }
}
