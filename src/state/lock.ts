import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '../log.ts'
import { quote } from '../nix/quote.ts'
import { StateFileError } from './database.ts'
import { createPrivateFile } from './private-file.ts'

/** Another process, or another part of this one, has the state directory. */
export class StateLockedError extends Error {
  override readonly name = 'StateLockedError'
  /** The lock file. */
  readonly path: string
  /** Who holds it, as far as it told. */
  readonly pid: number | undefined
  constructor(path: string, holder: Holder | undefined, options?: ErrorOptions) {
    const { pid, host = hostname() } = holder ?? {}
    const place = host === hostname() ? '' : ` on ${quote(host)}`
    const who = pid === undefined ? 'another narswarm' : `another narswarm (pid ${pid}${place})`
    super(`${path} is locked by ${who}: stop it, or use another state directory`, options)
    this.path = path
    this.pid = pid
  }
}

interface Holder {
  readonly pid: number
  readonly host?: string
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
 * @throws StateLockedError; StateFileError when the file cannot be locked: read-only, or a file system without locks
 */
export function lockStateDir(dir: string): StateLock {
  const path = join(dir, 'lock.sqlite')
  const pidPath = join(dir, 'lock.pid')
  let db: DatabaseSync | undefined
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    // A user who may read the file could hold a shared lock on it.
    createPrivateFile(path)
    db = new DatabaseSync(path, { timeout: 0 })
    // Exclusive locking keeps the file lock past COMMIT; no transaction is left open.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT')
  } catch (cause) {
    db?.close()
    if ((cause as { errcode?: number }).errcode === SQLITE_BUSY) {
      throw new StateLockedError(path, readHolder(pidPath), { cause })
    }
    const reason = `cannot be locked (${messageOf(cause)}): the state directory must be on a disk that can be written and has locks; some network file systems have none`
    throw new StateFileError(path, reason, { cause })
  }
  try {
    writeFileSync(pidPath, `${process.pid} ${hostname()}\n`, { mode: 0o600 })
  } catch {
    // Only a hint; a full disk is no reason not to serve what is here.
  }
  const held = db
  return {
    release() {
      if (held.isOpen) held.close()
    },
  }
}

const SQLITE_BUSY = 5

/** Only a hint for the message: the process before may have written it. */
function readHolder(path: string): Holder | undefined {
  try {
    const [text = '', host] = readFileSync(path, 'utf8').trim().split(' ')
    const pid = Number(text)
    if (!Number.isSafeInteger(pid) || pid <= 0) return undefined
    return host === undefined ? { pid } : { pid, host }
  } catch {
    return undefined
  }
}
