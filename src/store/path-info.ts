import type { SQLOutputValue, StatementSync } from 'node:sqlite'
import type { Log } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import { parseNarHash } from '../nix/hash.ts'
import { quote } from '../nix/quote.ts'
import { parseSignature } from '../nix/signature.ts'
import type { Signature } from '../nix/signature.ts'
import { formatStorePath, parseStorePath } from '../nix/store-path.ts'
import type { HashPart, StorePath } from '../nix/store-path.ts'
import { StorePathNotValidError, StoreUnavailableError } from './errors.ts'
import { openNixDb } from './nix-db.ts'
import type { NixDb } from './nix-db.ts'

/** What Nix knows of a valid path. `narSize` is 0 where Nix does not know it (rows of very old versions). */
export interface PathInfo extends SignedFields {
  readonly deriver?: StorePath
  readonly signatures: readonly Signature[]
  /** Content address: `fixed:r:sha256:…`, `text:sha256:…`. Such paths need no signature. */
  readonly ca?: string
  /** Built here, by this very store. */
  readonly ultimate: boolean
  /** Unix time in ms; Nix keeps seconds. */
  readonly registeredAt: number
}

/** A valid path as one who walks over all of them sees it. */
export interface RegisteredPath extends Pick<PathInfo, 'storePath' | 'narHash' | 'narSize'> {
  /** Grows with each path that is registered, and is never used again (AUTOINCREMENT). */
  readonly id: number
  /** It carries a signature; nobody has looked at it. */
  readonly isSigned: boolean
}

export interface PathInfos {
  byHashPart(hashPart: HashPart): PathInfo | undefined
  byId(id: number): RegisteredPath | undefined
  /**
   * The next valid paths with a higher id, in the order of their ids, which is that of their registration. Rows that cannot be
   * read are left out.
   */
  after(id: number, limit: number): { readonly paths: readonly RegisteredPath[]; readonly lastId: number }
  /** Another one than before when Nix has written to its database since. */
  changeMark(): string
  /** Bytes, 0 where Nix does not know; undefined when the path is not valid. */
  narSizeOf(path: StorePath): number | undefined
  /** References before their referrers. @throws StorePathNotValidError */
  closure(paths: readonly StorePath[]): PathInfo[]
  close(): void
}

type Row = Record<string, SQLOutputValue>

interface Session extends NixDb {
  readonly fromPath: StatementSync
  readonly byId: StatementSync
  readonly byPath: StatementSync
  readonly references: StatementSync
  readonly after: StatementSync
  readonly version: StatementSync
}

const COLUMNS = 'id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca'

/**
 * Path info out of Nix's `db.sqlite` (schema 10, the same from 2.8 to 2.36). Synchronous: indexed look-ups of some
 * 10 µs each, nothing over a whole table at once.
 *
 * @throws StoreUnavailableError
 */
export function openPathInfos(config: { database: string; storeDir: string }, deps: { log: Log }): PathInfos {
  const { database, storeDir } = config
  let told = false
  let sessions = 0
  let session = openSession()

  function tellImmutable(reason: string): void {
    if (told) return
    told = true
    deps.log.warn(
      { database, reason },
      'Nix database opened as immutable, since its -wal and -shm files are neither there nor can be made: newest paths may be missed',
    )
  }

  function openSession(): Session {
    const nixDb = openNixDb(database, tellImmutable)
    const { db } = nixDb
    sessions += 1
    return {
      ...nixDb,
      fromPath: db.prepare(`SELECT ${COLUMNS} FROM ValidPaths WHERE path >= ? ORDER BY path LIMIT 1`),
      byId: db.prepare(`SELECT ${COLUMNS} FROM ValidPaths WHERE id = ?`),
      byPath: db.prepare('SELECT id, narSize FROM ValidPaths WHERE path = ?'),
      references: db.prepare(
        'SELECT id, path FROM Refs JOIN ValidPaths ON id = reference WHERE referrer = ? ORDER BY path',
      ),
      after: db.prepare(
        'SELECT id, path, hash, narSize, sigs FROM ValidPaths WHERE id > ? ORDER BY id LIMIT ?',
      ),
      version: db.prepare('PRAGMA data_version'),
    }
  }

  function current(): Session {
    if (session.isStale()) {
      const stale = session
      session = openSession()
      stale.db.close()
    }
    return session
  }

  /** One snapshot for all look-ups of `work`: Nix may collect a path between two of them. */
  function inSnapshot<T>(work: (session: Session) => T): T {
    const { db } = current()
    db.exec('BEGIN')
    try {
      return work(session)
    } finally {
      // SQLite itself ends the transaction on some errors. Nothing was written, and a rollback does not fail.
      if (db.isTransaction) db.exec('ROLLBACK')
    }
  }

  return {
    byHashPart(hashPart) {
      const prefix = `${storeDir}/${hashPart}-`
      const find = ({ fromPath }: Session): Row | undefined => {
        const row = fromPath.get(prefix)
        return row !== undefined && text(row, 'path').startsWith(prefix) ? row : undefined
      }
      // One look-up is a snapshot of its own, and most are of paths that are not here.
      if (find(current()) === undefined) return undefined
      return inSnapshot((session) => {
        const row = find(session)
        return row && readPathInfo(row, session.references.all(integer(row, 'id')), storeDir)
      })
    },
    byId(id) {
      const row = current().byId.get(id)
      return row === undefined ? undefined : readRegistered(row, storeDir)
    },
    after(id, limit) {
      const rows = current().after.all(id, limit)
      const last = rows.at(-1)
      return {
        paths: rows.flatMap((row) => readRegistered(row, storeDir) ?? []),
        lastId: last === undefined ? id : integer(last, 'id'),
      }
    },
    narSizeOf(path) {
      const row = current().byPath.get(formatStorePath(path, storeDir))
      return row === undefined ? undefined : integer(row, 'narSize')
    },
    changeMark() {
      const { version } = current()
      return `${sessions} ${String(version.get()?.['data_version'])}`
    },
    closure(paths) {
      return inSnapshot((session) => readClosure(session, paths, storeDir))
    },
    close() {
      if (session.db.isOpen) session.db.close()
    },
  }
}

/** Depth first by a stack of its own: chains of references are longer than JavaScript's stack. */
function readClosure(session: Session, paths: readonly StorePath[], storeDir: string): PathInfo[] {
  const seen = new Set<number>()
  const infos: PathInfo[] = []
  for (const path of paths) {
    const root = session.byPath.get(formatStorePath(path, storeDir))
    if (root === undefined) throw new StorePathNotValidError(path)
    const open: { id: number; references: Row[]; next: number }[] = []
    const enter = (id: number): void => {
      if (seen.has(id)) return
      seen.add(id)
      open.push({ id, references: session.references.all(id), next: 0 })
    }
    enter(integer(root, 'id'))
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const reference = top.references[top.next]
      if (reference !== undefined) {
        top.next += 1
        enter(integer(reference, 'id'))
        continue
      }
      const row = session.byId.get(top.id)
      if (row === undefined) throw new StoreUnavailableError(`Nix database: no row with id ${top.id}`)
      infos.push(readPathInfo(row, top.references, storeDir))
      open.pop()
    }
  }
  return infos
}

/** Undefined for one that cannot be read: whoever asks for this very path is told what is wrong with its row. */
function readRegistered(row: Row, storeDir: string): RegisteredPath | undefined {
  try {
    return {
      id: integer(row, 'id'),
      storePath: parseStorePath(text(row, 'path'), storeDir),
      narHash: parseNarHash(text(row, 'hash')),
      narSize: integer(row, 'narSize'),
      isSigned: optionalText(row, 'sigs') !== undefined,
    }
  } catch {
    return undefined
  }
}

function readPathInfo(row: Row, references: readonly Row[], storeDir: string): PathInfo {
  const deriver = optionalText(row, 'deriver')
  const ca = optionalText(row, 'ca')
  return {
    storePath: parseStorePath(text(row, 'path'), storeDir),
    narHash: parseNarHash(text(row, 'hash')),
    narSize: integer(row, 'narSize'),
    references: references.map((reference) => parseStorePath(text(reference, 'path'), storeDir)),
    ...(deriver !== undefined && { deriver: parseStorePath(deriver, storeDir) }),
    signatures: readSignatures(optionalText(row, 'sigs') ?? ''),
    ...(ca !== undefined && { ca }),
    ultimate: integer(row, 'ultimate') === 1,
    registeredAt: integer(row, 'registrationTime') * 1000,
  }
}

/** Before 2.34 Nix took any text as a signature: what is none is worth nothing, and no reason to hide the path. */
function readSignatures(sigs: string): Signature[] {
  return sigs.split(' ').flatMap((sig) => {
    try {
      return sig === '' ? [] : [parseSignature(sig)]
    } catch {
      return []
    }
  })
}

function text(row: Row, column: string): string {
  return optionalText(row, column) ?? fail(row, column, 'text')
}

/** Nix writes some absent values as NULL and some as an empty text. */
function optionalText(row: Row, column: string): string | undefined {
  const value = row[column] ?? ''
  if (typeof value !== 'string') return fail(row, column, 'text')
  return value === '' ? undefined : value
}

/** 0 for NULL, as Nix reads it. */
function integer(row: Row, column: string): number {
  const value = row[column] ?? 0
  return typeof value === 'number' && Number.isSafeInteger(value)
    ? value
    : fail(row, column, 'a whole number')
}

function fail(row: Row, column: string, expected: string): never {
  const got = quote(String(row[column]))
  throw new StoreUnavailableError(
    `Nix database: ${column} of row ${String(row['id'])} must be ${expected}, got ${got}`,
  )
}
