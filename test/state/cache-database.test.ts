import assert from 'node:assert/strict'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import type { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { openCacheDatabase, openPreciousDatabase } from '../../src/state/cache-database.ts'
import { migrate, openDatabase, StateFileError } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

const STEPS = ['CREATE TABLE things (a TEXT)']
const prepare = (db: DatabaseSync): object => {
  migrate(db, 'things', STEPS)
  return {}
}

/** A database of some pages, closed. */
async function filled(t: TestContext): Promise<string> {
  const path = join(await tempDir(t), 'state.sqlite')
  const db = openDatabase(path)
  prepare(db)
  const insert = db.prepare('INSERT INTO things VALUES (?)')
  for (let n = 0; n < 200; n++) insert.run(`thing ${n} ${'x'.repeat(200)}`)
  db.close()
  return path
}

const damages: Record<string, (path: string) => Promise<void>> = {
  'is garbage': (path) => writeFile(path, 'not a database, though long enough to be one. '.repeat(100)),
  'was cut in the middle': (path) => truncate(path, 3 * 4096 + 100),
  'was cut within its header': (path) => truncate(path, 50),
  'has a page of garbage': async (path) => {
    const bytes = await readFile(path)
    bytes.fill(0xa5, 4096, 3 * 4096)
    await writeFile(path, bytes)
  },
}

for (const [name, damage] of Object.entries(damages)) {
  test(`a cache database that ${name} is moved aside, told in one line, and begun anew`, async (t) => {
    const path = await filled(t)
    await damage(path)
    const before = await readFile(path)
    const log = recordingLog()
    for (const lines of [1, 1]) {
      const { db } = openCacheDatabase(path, { log }, prepare)
      assert.equal(db.prepare('SELECT count(*) AS n FROM things').get()?.['n'], 0)
      db.close()
      assert.equal(log.lines.length, lines)
    }
    assert.match(log.lines[0]?.message ?? '', /moved to .*state\.sqlite\.damaged .*begun anew/)
    assert.deepEqual(await readFile(`${path}.damaged`), before)
  })

  test(`a database that nothing can replace and that ${name} is left as it is, and what to do is told`, async (t) => {
    const path = await filled(t)
    await damage(path)
    const before = await readFile(path)
    assert.throws(
      () => openPreciousDatabase(path),
      (error: unknown) =>
        error instanceof StateFileError &&
        error.message.includes(path) &&
        /restore it from a backup, or move it away/.test(error.message),
    )
    assert.deepEqual(await readFile(path), before)
  })
}

test('a cache database of a newer narswarm is moved aside too', async (t) => {
  const path = await filled(t)
  const newer = openDatabase(path)
  migrate(newer, 'things', [...STEPS, 'CREATE TABLE more (a TEXT)'])
  newer.close()
  const log = recordingLog()
  const { db } = openCacheDatabase(path, { log }, prepare)
  db.close()
  assert.match(log.lines[0]?.message ?? '', /schema of things is version 2/)
})

test('a good database is opened as it is, also with what its write-ahead log has', async (t) => {
  const path = await filled(t)
  const log = recordingLog()
  const first = openCacheDatabase(path, { log }, prepare)
  first.db.exec("INSERT INTO things VALUES ('one more')")
  const precious = openPreciousDatabase(path)
  for (const db of [precious, first.db]) {
    assert.equal(db.prepare('SELECT count(*) AS n FROM things').get()?.['n'], 201)
    db.close()
  }
  assert.deepEqual(log.lines, [])
  assert.equal(
    (await readdir(join(path, '..'))).some((name) => name.includes('damaged')),
    false,
  )
})

test('a disk that fails is no damage: nothing is moved', async (t) => {
  const dir = await tempDir(t)
  const log = recordingLog()
  assert.throws(
    () => openCacheDatabase(join(dir, 'absent', 'state.sqlite'), { log }, prepare),
    StateFileError,
  )
  assert.throws(
    () =>
      openCacheDatabase(join(dir, 'state.sqlite'), { log }, () => {
        throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
      }),
    /full/,
  )
  assert.deepEqual(log.lines, [])
})
