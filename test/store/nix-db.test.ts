import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { StoreUnavailableError } from '../../src/store/errors.ts'
import { openLocalStore } from '../../src/store/local-store.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'
import { realStore } from './real-store.ts'
import type { RealStore } from './real-store.ts'

const NOBODY = 65534
const late = parseStorePathBaseName('00000000000000000000000000000001-late')

function skipWithoutRoot(): string | false {
  if (process.getuid?.() !== 0) return 'only root can become nobody'
  return skipWithoutNix()
}

/** All that `work` does, it does as a user who may only read. */
function asNobody<T>(work: () => T): T {
  process.seteuid?.(NOBODY)
  try {
    return work()
  } finally {
    process.seteuid?.(0)
  }
}

/** A writer that has committed a row into the WAL and stays open, so that nothing moves it into the database. */
function writerWithLateRow(t: TestContext, store: RealStore): void {
  const db = new DatabaseSync(store.database)
  t.after(() => db.close())
  db.exec('PRAGMA wal_autocheckpoint = 0')
  const row = db.prepare(
    'INSERT INTO ValidPaths (path, hash, registrationTime, narSize) VALUES (?, ?, 1, 96)',
  )
  row.run(`/nix/store/${late}`, `sha256:${'0'.repeat(64)}`)
  assert.ok(statSync(`${store.database}-wal`).size > 0)
}

async function withOnePath(t: TestContext): Promise<{ store: RealStore; path: StorePath }> {
  const store = await realStore(t)
  const source = join(store.sources, 'early')
  await writeFile(source, 'early')
  return { store, path: store.add(source) }
}

const has = (local: LocalStore, path: StorePath): boolean => local.pathInfo(hashPartOf(path)) !== undefined

describe('the Nix database', () => {
  it('shows rows that are still in the WAL', { skip: skipWithoutNix() }, async (t) => {
    const { store, path } = await withOnePath(t)
    writerWithLateRow(t, store)
    const local = store.open()
    assert.deepEqual([has(local, path), has(local, late)], [true, true])
    assert.deepEqual(local.lines, [])
  })

  it('shows rows in the WAL to a user who may only read', { skip: skipWithoutRoot() }, async (t) => {
    const { store, path } = await withOnePath(t)
    writerWithLateRow(t, store)
    const local = asNobody(() => store.open())
    assert.deepEqual(
      asNobody(() => [has(local, path), has(local, late)]),
      [true, true],
    )
    assert.deepEqual(local.lines, [])
  })

  it(
    'is opened as immutable, with a warning, where -wal and -shm can not be made',
    { skip: skipWithoutRoot() },
    async (t) => {
      const { store, path } = await withOnePath(t)
      for (const suffix of ['-wal', '-shm']) rmSync(store.database + suffix, { force: true })
      const local = asNobody(() => store.open())
      assert.ok(asNobody(() => has(local, path)))
      assert.deepEqual(
        local.lines.map(({ level }) => level),
        ['warn'],
      )
      assert.match(local.lines[0]?.message ?? '', /opened as immutable/)

      // What Nix writes later is seen, and the warning is not said again.
      const source = join(store.sources, 'later')
      await writeFile(source, 'later')
      const later = store.add(source)
      assert.ok(asNobody(() => has(local, later)))
      assert.equal(local.lines.length, 1)

      // So is what is still in the WAL while Nix has the database open.
      writerWithLateRow(t, store)
      assert.ok(asNobody(() => has(local, late)))
    },
  )

  it(
    'is opened as immutable where there is a -wal without a -shm',
    { skip: skipWithoutRoot() },
    async (t) => {
      const { store, path } = await withOnePath(t)
      writerWithLateRow(t, store)
      const copy = await tempDir(t)
      await chmod(copy, 0o755)
      mkdirSync(join(copy, 'db'))
      for (const suffix of ['', '-wal'])
        copyFileSync(store.database + suffix, join(copy, `db/db.sqlite${suffix}`))
      const log = recordingLog()
      const local = asNobody(() => openLocalStore({ storeDir: '/nix/store', stateDir: copy }, { log }))
      t.after(() => local.close())
      assert.deepEqual(
        asNobody(() => [has(local, path), has(local, late)]),
        [true, false],
      )
      assert.equal(log.lines.length, 1)
    },
  )

  it('is not written, and may be closed twice', { skip: skipWithoutNix() }, async (t) => {
    const { store, path } = await withOnePath(t)
    const before = readFileSync(store.database)
    const local = store.open()
    assert.ok(has(local, path))
    local.close()
    local.close()
    assert.throws(() => has(local, path))
    assert.ok(readFileSync(store.database).equals(before))
  })

  it('is not made where there is none', async (t) => {
    const root = await tempDir(t)
    assert.throws(
      () => openLocalStore({ storeDir: '/nix/store', root }, { log: recordingLog() }),
      StoreUnavailableError,
    )
    assert.ok(!existsSync(join(root, 'nix')))
  })

  for (const [title, contents] of [
    ['text', 'this is no database, but long enough to be looked at as one: '.repeat(40)],
    ['empty', ''],
  ])
    it(`is refused when it is ${title}`, async (t) => {
      const stateDir = await tempDir(t)
      await mkdir(join(stateDir, 'db'))
      await writeFile(join(stateDir, 'db/db.sqlite'), contents ?? '')
      const log = recordingLog()
      assert.throws(
        () => openLocalStore({ storeDir: '/nix/store', stateDir }, { log }),
        StoreUnavailableError,
      )
      assert.deepEqual(log.lines, [])
    })
})
