import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createPrivateFile } from './private-file.ts'

/** Another process, or another part of this one, has the state directory. */
export class StateLockedError extends Error {
  override readonly name = 'StateLockedError'
  /** The lock file. */
  readonly path: string
  /** Who holds it, as far as it told. */
  readonly pid: number | undefined
  constructor(path: string, pid: number | undefined, options?: ErrorOptions) {
    const holder = pid === undefined ? 'another narswarm' : `another narswarm (pid ${pid})`
    super(`${path} is locked by ${holder}: stop it, or use another state directory`, options)
    this.path = path
    this.pid = pid
  }
}

export interface StateLock {
  release(): void
}

/**
 * Takes the state directory (made with mode 0700 when absent) for this process.
 *
 * The lock is SQLite's own on `lock.sqlite`, hence a POSIX record lock: the kernel gives it back when the process ends,
 * however it ends, and there is no stale file to judge. Never open `lock.sqlite` by other means in the process that
 * holds it: closing any descriptor of the file would drop the lock.
 *
 * @throws StateLockedError
 */
export function lockStateDir(dir: string): StateLock {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const path = join(dir, 'lock.sqlite')
  const pidPath = join(dir, 'lock.pid')
  // A user who may read the file could hold a shared lock on it.
  createPrivateFile(path)
  const db = new DatabaseSync(path, { timeout: 0 })
  try {
    // Exclusive locking keeps the file lock past COMMIT; no transaction is left open.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT')
  } catch (cause) {
    db.close()
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) throw cause
    throw new StateLockedError(path, readPid(pidPath), { cause })
  }
  writeFileSync(pidPath, `${process.pid}\n`, { mode: 0o600 })
  return {
    release() {
      if (db.isOpen) db.close()
    },
  }
}

const SQLITE_BUSY = 5

/** Only a hint for the message: the process before may have written it. */
function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8'))
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}
