import { TROUBLE_TOLD_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { isLately } from './lately.ts'

/**
 * Runs a write of rows that only remember something: when the database takes none (disk full, read-only, failing), that is
 * told once a minute at most, and life goes on without the row. What else is thrown is thrown.
 *
 * @returns whether it was written
 */
export type BestEffort = (write: () => void) => boolean

export function createBestEffort({ log, clock }: { log: Log; clock: () => number }): BestEffort {
  let told: number | undefined
  return (write) => {
    try {
      write()
      return true
    } catch (error) {
      if (!isWriteFailure(error)) throw error
      if (!isLately(told, TROUBLE_TOLD_MS, clock)) {
        told = clock()
        log.error(
          { err: error },
          `the state database takes no rows (${messageOf(error)}): what is here is served, nothing new is remembered`,
        )
      }
      return false
    }
  }
}

/** SQLite's primary result codes (sqlite.org/rescode.html): READONLY, IOERR, FULL, CANTOPEN (of the -wal or -shm). */
const WRITE_FAILURES = new Set([8, 10, 13, 14])

function isWriteFailure(error: unknown): boolean {
  const { errcode } = (error ?? {}) as { errcode?: unknown }
  return typeof errcode === 'number' && WRITE_FAILURES.has(errcode & 0xff)
}
