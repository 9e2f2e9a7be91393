import { statfsSync } from 'node:fs'
import {
  SPOOL_MAX_DEFAULT_BYTES,
  SPOOL_MAX_DEFAULT_SHARE,
  SPOOL_MIN_FREE_DEFAULT_BYTES,
  SPOOL_MIN_FREE_DEFAULT_SHARE,
} from '../limits.ts'

/** Bytes. */
export interface SpoolLimits {
  /** Of unpinned NARs and kept parts, once nothing reads or writes them. */
  readonly maxBytes: number
  /** On the spool's file system. */
  readonly minFreeBytes: number
}

/** For whoever has no disk to look after: tests, and the worker that only reads. */
export const NO_LIMITS: SpoolLimits = { maxBytes: Infinity, minFreeBytes: 0 }

/** What the user said, else by the size of the file system that `dir` is on. */
export function spoolLimits(
  dir: string,
  given: { maxBytes: number | undefined; minFreeBytes: number | undefined },
): SpoolLimits {
  const { bsize, blocks } = statfsSync(dir)
  const total = bsize * blocks
  return {
    maxBytes:
      given.maxBytes ?? Math.min(SPOOL_MAX_DEFAULT_BYTES, Math.floor(total * SPOOL_MAX_DEFAULT_SHARE)),
    minFreeBytes:
      given.minFreeBytes ??
      Math.min(SPOOL_MIN_FREE_DEFAULT_BYTES, Math.floor(total * SPOOL_MIN_FREE_DEFAULT_SHARE)),
  }
}

/** What an ordinary user may still write there; undefined when the file system does not say. */
export function freeBytesAt(dir: string): number | undefined {
  try {
    const { bsize, bavail } = statfsSync(dir)
    return bsize * bavail
  } catch {
    return undefined
  }
}
