import {
  CHUNK_BYTES,
  FIRST_CHUNK_BYTES,
  LONG_CHUNK_BYTES,
  LONG_CHUNKS_AFTER_BYTES,
  LONG_CHUNKS_QUICK_MS,
  LONG_CHUNKS_SLOW_MS,
} from '../limits.ts'
import type { ReadOptions } from '../source.ts'
import type { ChunkOptions } from './nar-file.ts'

/**
 * Two buffers in turn, for one reader who is done with a chunk when it asks for the next but one (`ReadOptions.reuse`):
 * while one chunk is read from disk, the reader still has the one before, and that is all.
 */
export interface ChunkBuffers {
  /**
   * Bytes that the next chunk had best have. Each costs a way to a thread and back and some turns of the loop, so a quick
   * reader gets long ones; those of a slow one would lie about.
   */
  readonly size: number
  /** So long, with whatever was in it. */
  next(length: number): Uint8Array
}

/** For one reader: all its reads are to have the same. */
export function chunkOptions({ signal, reuse = false }: ReadOptions): ChunkOptions {
  return reuse ? { signal, buffers: createChunkBuffers() } : { signal }
}

/** @param clock milliseconds with fractions, monotonic */
export function createChunkBuffers(clock: () => number = () => performance.now()): ChunkBuffers {
  let size = FIRST_CHUNK_BYTES
  let spare: Uint8Array | undefined
  let latest: Uint8Array | undefined
  let given = 0
  let askedAt = clock()

  const adapt = (): void => {
    const now = clock()
    const tookMs = now - askedAt
    askedAt = now
    if (given >= LONG_CHUNKS_AFTER_BYTES && tookMs < LONG_CHUNKS_QUICK_MS) size = LONG_CHUNK_BYTES
    else if (size < CHUNK_BYTES || tookMs > LONG_CHUNKS_SLOW_MS) size = CHUNK_BYTES
  }

  return {
    get size() {
      return size
    },
    next(length) {
      const longest = Math.max(size, length, CHUNK_BYTES)
      const fits = spare !== undefined && spare.length >= length && spare.length <= longest
      const taken = fits && spare !== undefined ? spare : Buffer.allocUnsafeSlow(length)
      given += length
      adapt()
      spare = latest
      latest = taken
      return taken.subarray(0, length)
    },
  }
}
