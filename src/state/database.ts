import { DatabaseSync } from 'node:sqlite'
import { SQLITE_BUSY_TIMEOUT_MS } from '../limits.ts'
import { createPrivateFile } from './private-file.ts'

/** The file cannot be used as a state database: no permission, not SQLite, damaged, or on a file system without WAL. */
export class StateFileError extends Error {
  override readonly name = 'StateFileError'
  readonly path: string
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`state database ${path}: ${reason}`, options)
    this.path = path
  }
}

/** The database was written by a newer narswarm. */
export class SchemaTooNewError extends Error {
  override readonly name = 'SchemaTooNewError'
  constructor(component: string, found: number, known: number, file: string) {
    super(
      `${file}: schema of ${component} is version ${found}, this narswarm knows up to ${known}: ` +
        `run the newer narswarm that wrote it, or move the state directory away and start afresh`,
    )
  }
}

export interface DatabaseOptions {
  /** For a second connection, such as a worker's; the file must be there. */
  readOnly?: boolean
  /** FULL survives a power cut after each commit (feeds); NORMAL may lose the last commits, never consistency. */
  synchronous?: 'FULL' | 'NORMAL'
}

/**
 * Opens a SQLite file of mode 0600, made when absent: WAL, foreign keys, 5 s busy timeout.
 *
 * @throws StateFileError
 */
export function openDatabase(path: string, options: DatabaseOptions = {}): DatabaseSync {
  const { readOnly = false, synchronous = 'NORMAL' } = options
  let db: DatabaseSync | undefined
  try {
    if (!readOnly) createPrivateFile(path)
    db = new DatabaseSync(path, {
      readOnly,
      timeout: SQLITE_BUSY_TIMEOUT_MS,
      enableForeignKeyConstraints: true,
    })
    const mode = db.prepare(readOnly ? 'PRAGMA journal_mode' : 'PRAGMA journal_mode = WAL').get()
    if (mode?.['journal_mode'] !== 'wal') {
      throw new Error(`expected journal mode wal, got ${JSON.stringify(mode?.['journal_mode'])}`)
    }
    db.exec(`PRAGMA synchronous = ${synchronous}`)
    return db
  } catch (cause) {
    db?.close()
    throw new StateFileError(path, cause instanceof Error ? cause.message : 'cannot be opened', { cause })
  }
}

/** Runs `work` in one write transaction: its commit when it returns, nothing of it when it throws. */
export function inTransaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (error) {
    // SQLite itself rolls back on some errors (disk full, I/O).
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

/**
 * Brings the tables of one component to version `steps.length`: step `n` is the SQL that leads from version n to n + 1.
 * Steps are only ever appended. Writes nothing when the version is right, so that a read-only connection may call it.
 *
 * @throws SchemaTooNewError
 */
export function migrate(db: DatabaseSync, component: string, steps: readonly string[]): void {
  if (versionOf(db, component) === steps.length) return
  inTransaction(db, () => {
    db.exec(
      'CREATE TABLE IF NOT EXISTS schema_version (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT',
    )
    // Read again under the write lock: another connection may have just done it.
    const found = versionOf(db, component)
    if (found > steps.length) {
      throw new SchemaTooNewError(component, found, steps.length, db.location() ?? 'database')
    }
    for (const step of steps.slice(found)) db.exec(step)
    db.prepare('INSERT OR REPLACE INTO schema_version (component, version) VALUES (?, ?)').run(
      component,
      steps.length,
    )
  })
}

function versionOf(db: DatabaseSync, component: string): number {
  const table = db
    .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'")
    .get()
  if (table === undefined) return 0
  const row = db.prepare('SELECT version FROM schema_version WHERE component = ?').get(component)
  return Number(row?.['version'] ?? 0)
}
