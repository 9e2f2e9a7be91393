import assert from 'node:assert/strict'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  SchemaTooNewError,
  StateFileError,
  inTransaction,
  migrate,
  openDatabase,
} from '../../src/state/database.ts'
import { tempDir } from '../kit/temp.ts'

test('a new database and its write-ahead log are readable by their owner alone', async (t) => {
  const path = join(await tempDir(t), 'state.sqlite')
  const db = openDatabase(path)
  t.after(() => db.close())
  db.exec('CREATE TABLE x (a)')
  for (const file of [path, `${path}-wal`, `${path}-shm`])
    assert.equal((await stat(file)).mode & 0o777, 0o600, file)
})

test('a database others could read is closed to them before it is used', async (t) => {
  const path = join(await tempDir(t), 'state.sqlite')
  await writeFile(path, '')
  await chmod(path, 0o644)
  openDatabase(path).close()
  assert.equal((await stat(path)).mode & 0o777, 0o600)
})

test('foreign keys, WAL, the busy timeout and the asked synchronous mode are on', async (t) => {
  const dir = await tempDir(t)
  for (const [synchronous, value] of [
    ['FULL', 2],
    ['NORMAL', 1],
  ] as const) {
    const db = openDatabase(join(dir, `${synchronous}.sqlite`), { synchronous })
    t.after(() => db.close())
    assert.deepEqual({ ...db.prepare('PRAGMA foreign_keys').get() }, { foreign_keys: 1 })
    assert.deepEqual({ ...db.prepare('PRAGMA journal_mode').get() }, { journal_mode: 'wal' })
    assert.deepEqual({ ...db.prepare('PRAGMA busy_timeout').get() }, { timeout: 5000 })
    assert.deepEqual({ ...db.prepare('PRAGMA synchronous').get() }, { synchronous: value })
  }
})

test('a read-only connection sees what the writer commits and cannot write', async (t) => {
  const path = join(await tempDir(t), 'state.sqlite')
  const writer = openDatabase(path)
  t.after(() => writer.close())
  migrate(writer, 'x', ['CREATE TABLE x (a)'])
  const reader = openDatabase(path, { readOnly: true })
  t.after(() => reader.close())
  migrate(reader, 'x', ['CREATE TABLE x (a)'])
  writer.exec('INSERT INTO x VALUES (1)')
  assert.equal(reader.prepare('SELECT a FROM x').get()?.['a'], 1)
  assert.throws(() => reader.exec('INSERT INTO x VALUES (2)'), /readonly/)
})

test('what is not a database is told with its path and left as it is', async (t) => {
  const dir = await tempDir(t)
  const text = join(dir, 'text.sqlite')
  await writeFile(text, 'not a database at all, but long enough to be looked at by SQLite. '.repeat(20))
  const before = await readFile(text)
  assert.throws(
    () => openDatabase(text),
    (error: unknown) =>
      error instanceof StateFileError && error.path === text && /not a database/.test(error.message),
  )
  assert.deepEqual(await readFile(text), before)

  await mkdir(join(dir, 'folder'))
  assert.throws(() => openDatabase(join(dir, 'folder')), StateFileError)
  assert.throws(() => openDatabase(join(dir, 'absent', 'state.sqlite')), StateFileError)
  assert.throws(() => openDatabase(join(dir, 'absent.sqlite'), { readOnly: true }), StateFileError)
})

test('each component is migrated on its own, only by the steps it lacks', async (t) => {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  migrate(db, 'a', ['CREATE TABLE a (x)'])
  migrate(db, 'b', ['CREATE TABLE b (x)'])
  migrate(db, 'a', ['CREATE TABLE a (x)', 'ALTER TABLE a ADD COLUMN y'])
  db.exec('INSERT INTO a (x, y) VALUES (1, 2)')
  assert.deepEqual(
    db
      .prepare('SELECT component, version FROM schema_version ORDER BY component')
      .all()
      .map((row) => [row['component'], row['version']]),
    [
      ['a', 2],
      ['b', 1],
    ],
  )
})

test('a step that fails leaves the tables and the version as they were', async (t) => {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  migrate(db, 'a', ['CREATE TABLE a (x)'])
  assert.throws(() => migrate(db, 'a', ['CREATE TABLE a (x)', 'CREATE TABLE c (x); nonsense']))
  assert.equal(db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'c'").get(), undefined)
  migrate(db, 'a', ['CREATE TABLE a (x)', 'CREATE TABLE c (x)'])
})

test('a schema of a newer narswarm is refused, with what to do', async (t) => {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  migrate(db, 'a', ['CREATE TABLE a (x)', 'CREATE TABLE b (x)'])
  assert.throws(
    () => migrate(db, 'a', ['CREATE TABLE a (x)']),
    (error: unknown) =>
      error instanceof SchemaTooNewError &&
      /schema of a is version 2.*up to 1.*newer narswarm/.test(error.message),
  )
})

test('a transaction that throws leaves nothing', async (t) => {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  db.exec('CREATE TABLE x (a)')
  assert.throws(
    () =>
      inTransaction(db, () => {
        db.exec('INSERT INTO x VALUES (1)')
        throw new Error('no')
      }),
    /^Error: no$/,
  )
  assert.equal(
    inTransaction(db, () => db.prepare('SELECT count(*) AS n FROM x').get()?.['n']),
    0,
  )
})
