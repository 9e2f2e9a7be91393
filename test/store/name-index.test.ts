import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { NAME_INDEX_RECENT_COUNT, NAME_INDEX_ROWS_COUNT } from '../../src/limits.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { nameOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { createNameIndex } from '../../src/store/name-index.ts'
import type { NameIndex } from '../../src/store/name-index.ts'
import { openPathInfos } from '../../src/store/path-info.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

/** The part of Nix's schema 10 that is read here. */
const SCHEMA = `
  CREATE TABLE ValidPaths (id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
  CREATE TABLE Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));`

interface Fixture {
  readonly db: DatabaseSync
  register: (name: string, narSize?: number) => StorePath
  collect: (path: StorePath) => void
  /** Closed after the test. */
  index: () => NameIndex
}

async function fixture(t: TestContext): Promise<Fixture> {
  const file = join(await tempDir(t), 'db.sqlite')
  const db = new DatabaseSync(file)
  t.after(() => db.close())
  db.exec(`PRAGMA journal_mode = WAL; ${SCHEMA}`)
  const insert = db.prepare(
    `INSERT INTO ValidPaths (path, hash, registrationTime, narSize) VALUES (?, 'sha256:${'0'.repeat(64)}', 0, ?)`,
  )
  let count = 0
  return {
    db,
    register(name, narSize = 96) {
      const hash = Buffer.alloc(20)
      hash.writeUInt32LE(++count)
      const path = parseStorePathBaseName(`${encodeNix32(hash)}-${name}`)
      insert.run(`/nix/store/${path}`, narSize)
      return path
    },
    collect(path) {
      db.prepare('DELETE FROM ValidPaths WHERE path = ?').run(`/nix/store/${path}`)
    },
    index() {
      const log = recordingLog()
      const infos = openPathInfos({ database: file, storeDir: '/nix/store' }, { log })
      const index = createNameIndex(infos, { log })
      t.after(() => {
        index.close()
        infos.close()
      })
      return index
    },
  }
}

describe('the name index', () => {
  it('finds paths by name and NarSize, newest first, no more than asked for', async (t) => {
    const { register, index } = await fixture(t)
    const [old, , other, latest] = [
      register('hello-2.12'),
      register('hello-2.12', 104),
      register('hello-2.12'),
      register('hello-2.12'),
    ]
    register('hello-2.13')
    const names = index()
    await names.filled
    assert.deepEqual(names.sameName('hello-2.12', 96, 9), [latest, other, old])
    assert.deepEqual(names.sameName('hello-2.12', 96, 2), [latest, other])
    assert.deepEqual(names.sameName('hello-2.12', 97, 9), [])
    assert.deepEqual(names.sameName('hello', 96, 9), [])
  })

  it('finds all versions of a package', async (t) => {
    const { register, index } = await fixture(t)
    const paths = [register('hello-2.12'), register('hello'), register('hello-2.13-doc', 1_000)]
    register('hello-world-1')
    const names = index()
    await names.filled
    assert.deepEqual(names.samePackage('hello', 9), paths.toReversed())
    assert.deepEqual(names.samePackage('hello-2.12', 9), [])
  })

  it('leaves out derivations', async (t) => {
    const { register, index } = await fixture(t)
    register('hello-2.12.drv')
    const names = index()
    await names.filled
    assert.deepEqual(names.sameName('hello-2.12.drv', 96, 9), [])
    assert.deepEqual(names.samePackage('hello', 9), [])
  })

  it('knows at once of a path that Nix has registered since', async (t) => {
    const { register, index } = await fixture(t)
    const names = index()
    await names.filled
    assert.deepEqual(names.sameName('late-1', 96, 9), [])
    const late = register('late-1')
    assert.deepEqual(names.sameName('late-1', 96, 9), [late])
    assert.deepEqual(names.samePackage('late', 9), [late])
  })

  it('names nothing that was collected, nor its id again', async (t) => {
    const { register, collect, index } = await fixture(t)
    const [first, last] = [register('gone-1'), register('gone-1')]
    const names = index()
    await names.filled
    collect(last)
    assert.deepEqual(names.sameName('gone-1', 96, 9), [first])
    collect(first)
    assert.deepEqual(names.sameName('gone-1', 96, 9), [])
    const again = register('gone-1')
    assert.deepEqual(names.sameName('gone-1', 96, 9), [again])
  })

  it('finds among more paths than fit in one turn, and reads many that come at once', async (t) => {
    const { db, register, index } = await fixture(t)
    const many = (from: number, count: number): StorePath[] => {
      db.exec('BEGIN')
      const paths = Array.from({ length: count }, (_, at) => register(`package-${from + at}`))
      db.exec('COMMIT')
      return paths
    }
    const first = many(0, 3 * NAME_INDEX_RECENT_COUNT)
    const names = index()
    await names.filled
    for (const path of first) assert.deepEqual(names.sameName(nameOf(path), 96, 9), [path])
    const later = many(first.length, 2 * NAME_INDEX_RECENT_COUNT)
    // The first look-up begins to read them.
    const [newest] = later.slice(-1)
    for (let tries = 0; tries < 1_000; tries += 1) {
      if (names.sameName(nameOf(newest ?? assert.fail()), 96, 9).length > 0) break
      await new Promise(setImmediate)
    }
    for (const path of later) assert.deepEqual(names.sameName(nameOf(path), 96, 9), [path])
  })

  it('is filled anew after many paths have come and gone', async (t) => {
    const { db, register, index } = await fixture(t)
    const kept = register('kept-1')
    const names = index()
    await names.filled
    for (let turn = 0; turn < 3; turn += 1) {
      db.exec('BEGIN')
      for (let at = 0; at < NAME_INDEX_RECENT_COUNT; at += 1) register(`passing-${turn}.${at}`)
      db.exec('COMMIT')
      db.exec("DELETE FROM ValidPaths WHERE path LIKE '%-passing-%'")
      names.samePackage('passing', 9)
      await new Promise(setImmediate)
    }
    assert.deepEqual(names.sameName('kept-1', 96, 9), [kept])
  })

  it('looks at few rows of a name that thousands have', async (t) => {
    const { db, register, index } = await fixture(t)
    db.exec('BEGIN')
    const paths = Array.from({ length: 500 }, () => register('source'))
    db.exec('COMMIT')
    const names = index()
    await names.filled
    assert.deepEqual(names.sameName('source', 96, 1_000), paths.slice(-NAME_INDEX_ROWS_COUNT).toReversed())
  })

  it('does without names that no store path may have', async (t) => {
    const { db, register, index } = await fixture(t)
    db.exec("INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('/elsewhere/x', 'sha256:', 0)")
    const path = register('fine-1')
    const names = index()
    await names.filled
    assert.deepEqual(names.samePackage('fine', 9), [path])
  })
})
