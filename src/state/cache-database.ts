import { renameSync, rmSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { openDatabase, SchemaTooNewError, StateFileError } from './database.ts'

/**
 * Opens a database that only remembers what can be found again. One that is damaged, or of a newer narswarm, is moved
 * aside to `<path>.damaged` (over an earlier one) and begun anew.
 *
 * @param prepare makes the tables of those who use it
 * @throws StateFileError when it is the disk that fails: a fresh file would not help
 */
export function openCacheDatabase<T extends object>(
  path: string,
  { log }: { log: Log },
  prepare: (db: DatabaseSync) => T,
): T & { readonly db: DatabaseSync } {
  try {
    return openChecked(path, prepare)
  } catch (error) {
    if (!(error instanceof SchemaTooNewError) && !isDamage(error)) throw error
    const aside = `${path}.damaged`
    for (const suffix of ['', '-wal', '-shm']) {
      rmSync(`${aside}${suffix}`, { force: true })
      moveIfThere(`${path}${suffix}`, `${aside}${suffix}`)
    }
    log.error(
      { path, err: error },
      `the state database cannot be used and was moved to ${aside} (${messageOf(error)}): begun anew from what is in the spool; ` +
        `what was published from a binary cache is to be published again, so that it is not evicted`,
    )
    return openChecked(path, prepare)
  }
}

/**
 * Opens a database that nothing can replace: followed feeds are kept from going back by what is in it.
 *
 * @throws StateFileError that says what to do
 */
export function openPreciousDatabase(path: string): DatabaseSync {
  try {
    return openChecked(path, () => ({}), 'FULL').db
  } catch (error) {
    if (!isDamage(error)) throw error
    throw new StateFileError(
      path,
      `damaged (${messageOf(error)}). It keeps followed feeds from being rolled back, so it is not begun anew by itself: ` +
        `restore it from a backup, or move it away to trust each feed afresh at its next head`,
      { cause: error },
    )
  }
}

function openChecked<T extends object>(
  path: string,
  prepare: (db: DatabaseSync) => T,
  synchronous: 'FULL' | 'NORMAL' = 'NORMAL',
): T & { readonly db: DatabaseSync } {
  const db = openDatabase(path, { synchronous })
  try {
    // All pages once, without the indexes' order: what is cut off or garbage shows here, not in the middle of an answer.
    const verdict = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (verdict !== 'ok') throw new DamageError(String(verdict).replaceAll(/\s+/g, ' '))
    return { ...prepare(db), db }
  } catch (error) {
    db.close()
    throw error
  }
}

class DamageError extends Error {
  override readonly name = 'DamageError'
}

/** SQLITE_CORRUPT and SQLITE_NOTADB; SQLITE_ERROR at preparing: tables that are not those of any narswarm. */
const DAMAGE = new Set([1, 11, 26])

function isDamage(error: unknown): boolean {
  if (error instanceof DamageError) return true
  const { errcode } = ((error instanceof StateFileError ? error.cause : error) ?? {}) as { errcode?: unknown }
  return typeof errcode === 'number' && DAMAGE.has(errcode & 0xff)
}

function moveIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
