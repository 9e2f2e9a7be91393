import { messageOf } from '../log.ts'
import { existsSync, statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { DatabaseSync } from 'node:sqlite'
import { SQLITE_BUSY_TIMEOUT_MS } from '../limits.ts'
import { StoreUnavailableError } from './errors.ts'

export interface NixDb {
  readonly db: DatabaseSync
  /** True when this connection cannot see what Nix has written since: close it and open another. */
  isStale(): boolean
}

const SQLITE_READONLY = 8
const SQLITE_CANTOPEN = 14

/**
 * Opens Nix's own `db.sqlite` for reading, and never writes to it. (Run as root SQLite may leave empty -wal and -shm
 * files beside it, as newer Nix does.)
 *
 * The trap: it is in WAL mode, and a reader needs its `-wal` and `-shm` files, or the right to make them. Where it has
 * neither, SQLite says "attempt to write a readonly database" or "unable to open database file". On these two alone
 * it is opened as immutable, which always works but misses rows that are still in the WAL [nix-protocol B1]; the caller
 * is told by `onImmutable`.
 *
 * @throws StoreUnavailableError
 */
export function openNixDb(path: string, onImmutable: (reason: string) => void): NixDb {
  if (!existsSync(path)) throw new StoreUnavailableError(`no Nix database at ${path}`)
  try {
    return { db: connect(path), isStale: () => false }
  } catch (error) {
    if (!lacksWalFiles(error)) throw unavailable(path, error)
    onImmutable(messageOf(error))
  }
  try {
    const opened = changeMark(path)
    const url = new URL('?immutable=1', pathToFileURL(path))
    return { db: connect(url), isStale: () => changeMark(path) !== opened }
  } catch (error) {
    throw unavailable(path, error)
  }
}

/** SQLite opens lazily: only a query shows whether the file can be read, and is Nix's. */
function connect(path: string | URL): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: true, timeout: SQLITE_BUSY_TIMEOUT_MS })
  try {
    db.prepare('SELECT id FROM ValidPaths LIMIT 1').get()
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function lacksWalFiles(error: unknown): boolean {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return false
  // The low byte is the primary code: SQLITE_READONLY_DIRECTORY and others are kinds of SQLITE_READONLY.
  const code = error.errcode & 0xff
  return code === SQLITE_READONLY || code === SQLITE_CANTOPEN
}

/** Of the -wal too: with it and its -shm there, as long as Nix has the database open, a true connection is possible. */
function changeMark(path: string): string {
  return ['', '-wal', '-shm']
    .map((suffix) => statSync(path + suffix, { throwIfNoEntry: false }))
    .map((stats) => (stats === undefined ? 'none' : `${stats.ino} ${stats.size} ${stats.mtimeMs}`))
    .join(', ')
}

function unavailable(path: string, cause: unknown): StoreUnavailableError {
  return new StoreUnavailableError(`Nix database ${path} cannot be read: ${messageOf(cause)}`, { cause })
}
