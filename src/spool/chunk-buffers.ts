import type { ReadOptions } from '../source.ts'
import type { ChunkOptions } from './nar-file.ts'

/**
 * Two buffers in turn, for one reader who is done with a chunk when it asks for the next but one (`ReadOptions.reuse`):
 * while one chunk is read from disk, the reader still has the one before, and that is all.
 */
export interface ChunkBuffers {
  /** So long, with whatever was in it. */
  next(length: number): Uint8Array
}

/** For one reader: all its reads are to have the same. */
export function chunkOptions({ signal, reuse = false }: ReadOptions): ChunkOptions {
  return reuse ? { signal, buffers: createChunkBuffers() } : { signal }
}

export function createChunkBuffers(): ChunkBuffers {
  let spare: Uint8Array | undefined
  let latest: Uint8Array | undefined
  return {
    next(length) {
      const taken = spare !== undefined && spare.length >= length ? spare : Buffer.allocUnsafeSlow(length)
      spare = latest
      latest = taken
      return taken.subarray(0, length)
    },
  }
}
