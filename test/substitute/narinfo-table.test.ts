import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { NARINFO_ANSWERABLE_MS, NARINFO_PRUNE_COUNT } from '../../src/limits.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openDatabase } from '../../src/state/database.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { noise, planOf } from '../spool/kit.ts'
import { narInfoOf, testPolicy } from './kit.ts'

const DAY_MS = 24 * 3600 * 1000
const plan = planOf(noise(3_000))
const info = testPolicy.verify(narInfoOf(plan))
const hashPart = hashPartOf(info.storePath)
const other = testPolicy.verify(narInfoOf(plan, 'other-1.0'))

async function tables(t: TestContext) {
  const db = openDatabase(`${await tempDir(t)}/state.sqlite`)
  t.after(() => db.close())
  const log = recordingLog()
  let now = Date.now()
  const restart = () => createNarInfoTable({ db, clock: () => now, log }, { storeDir: STORE_DIR })
  return {
    db,
    log,
    table: restart(),
    restart,
    pass: (ms: number) => (now += ms),
    rows: () => Number(db.prepare('SELECT count(*) AS count FROM narinfo').get()?.['count']),
    /** As on a disk that takes nothing. */
    readOnly: (on: boolean) => db.exec(`PRAGMA query_only = ${on ? 'ON' : 'OFF'}`),
  }
}

describe('narinfos that were given', () => {
  it('are known for the 30 days that Nix keeps them, whatever is restarted', async (t) => {
    const { table, restart, pass } = await tables(t)
    table.put(info)
    pass(30 * DAY_MS)
    const again = restart()
    assert.equal(again.prune(), false)
    assert.equal(again.byHashPart(hashPart)?.storePath, info.storePath)
    assert.deepEqual(
      again.byNarHash(info.narHash).map(({ storePath }) => storePath),
      [info.storePath],
    )
  })

  for (const how of ['at a start', 'while it runs'] as const) {
    it(`are forgotten after that, ${how}, and not those given since`, async (t) => {
      const { table, restart, pass } = await tables(t)
      table.put(info)
      pass(DAY_MS)
      table.put(other)
      pass(NARINFO_ANSWERABLE_MS - DAY_MS + 1)
      const later = how === 'at a start' ? restart() : table
      if (later === table) table.prune()
      assert.equal(later.byHashPart(hashPart), undefined)
      assert.equal(later.byNarHash(info.narHash).length, 1)
    })
  }

  it('are forgotten so many at a time', async (t) => {
    const { db, table, pass, rows } = await tables(t)
    db.exec(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${2 * NARINFO_PRUNE_COUNT + 1})
       INSERT INTO narinfo(hash_part, nar_hash, text, seen) SELECT 'x' || i, x'00', '', 0 FROM n`,
    )
    table.put(info)
    pass(1)
    assert.equal(table.prune(), true)
    assert.equal(rows(), NARINFO_PRUNE_COUNT + 2)
    assert.equal(table.prune(), true)
    assert.equal(table.prune(), false)
    assert.equal(rows(), 1)
  })
})

describe('a disk that takes no narinfo', () => {
  it('is told of once, and what was given is known until the process ends', async (t) => {
    const { table, restart, readOnly, log } = await tables(t)
    readOnly(true)
    table.put(info)
    table.put(other)
    table.put(info)
    assert.equal(table.prune(), false)
    assert.equal(table.byHashPart(hashPart)?.narHash, info.narHash)
    assert.equal(table.byNarHash(info.narHash).length, 2)
    assert.deepEqual(
      log.lines.map(({ level }) => level),
      ['error'],
    )
    assert.deepEqual(restart().byNarHash(info.narHash), [])
  })

  it('gets all of it once it takes some again', async (t) => {
    const { table, restart, readOnly, log } = await tables(t)
    readOnly(true)
    table.put(info)
    readOnly(false)
    table.put(other)
    assert.equal(restart().byNarHash(info.narHash).length, 2)
    assert.deepEqual(
      log.lines.map(({ level }) => level),
      ['error', 'info'],
    )
  })

  it('keeps the newest of a path', async (t) => {
    const { table, readOnly } = await tables(t)
    table.put({ ...info, cid: 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku' })
    readOnly(true)
    table.put(info)
    assert.equal(table.byHashPart(hashPart)?.cid, undefined)
  })
})
