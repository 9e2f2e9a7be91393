import assert from 'node:assert/strict'
import { stat, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { rawCid } from '../../src/dag/cid.ts'
import { SPOOL_IN_USE_MS, SPOOL_PART_MAX_AGE_MS, SPOOL_TIDY_MS } from '../../src/limits.ts'
import type { NarHash } from '../../src/nix/hash.ts'
import { hashPartOf, parseStorePathBaseName, type StorePath } from '../../src/nix/store-path.ts'
import { checkSpool } from '../../src/spool/check.ts'
import { createIndexRelease, createSpoolKeeper } from '../../src/spool/keeper.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { collect, leafOf, noise, options, pathIn, planOf, store as spooled } from './kit.ts'
import { openByRanges } from '../store/open-by-ranges.ts'

const PATH = parseStorePathBaseName('7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-hello-2.12')

/** A store in which what is registered is valid. */
function storeWith(valid: Map<StorePath, { narHash: NarHash; bytes: Buffer }>): LocalStore {
  const refuse = (): never => assert.fail('not in this test')
  return {
    storeDir: '/nix/store',
    pathInfo(hashPart) {
      for (const [storePath, { narHash, bytes }] of valid) {
        if (hashPartOf(storePath) !== hashPart) continue
        const rest = { references: [], signatures: [], ultimate: false, registeredAt: 0 }
        return { storePath, narHash, narSize: bytes.length, ...rest }
      }
      return undefined
    },
    closure: refuse,
    registered: { byId: refuse, after: refuse, changeMark: refuse },
    readNar: refuse,
    async readNarInto(path, { start, end }, target) {
      target.set(valid.get(path)?.bytes.subarray(start, end) ?? assert.fail('not valid'))
      return { mark: 'of this test', changedMs: 0 }
    },
    openNar(...asked) {
      return openByRanges(this, ...asked)
    },
    close() {},
  }
}

async function bench(t: TestContext, maxBytes = Infinity) {
  const root = await tempDir(t)
  const db = openDatabase(`${root}/state.sqlite`)
  t.after(() => db.close())
  const log = recordingLog()
  const time = { now: Date.now() }
  const clock = (): number => time.now
  const index = openLeafIndex(db)
  const valid = new Map<StorePath, { narHash: NarHash; bytes: Buffer }>()
  const store = storeWith(valid)
  const dir = `${root}/spool`
  const spool = await openSpool({
    db,
    dir,
    log,
    clock,
    limits: { maxBytes, minFreeBytes: 0 },
    evicted: createIndexRelease(index, store),
  })
  const told = new Map<NarHash, StorePath[]>()
  const keeper = createSpoolKeeper({
    spool,
    index,
    store,
    pathsOf: (narHash) => told.get(narHash) ?? [],
    clock,
    log,
  })
  const blocks = createLocalBlocks({ index, spool, store, log })
  const later = (ms = SPOOL_IN_USE_MS + 1): void => void (time.now += ms)
  return { dir, db, log, index, valid, spool, told, keeper, blocks, later, time }
}

const bytes = noise(2 * LEAF_BYTES + 5, 'imported')

test('what Nix has imported leaves the spool, and its blocks come from the store path', async (t) => {
  const { spool, index, told, valid, keeper, blocks, later, dir } = await bench(t)
  const plan = await spooled(spool, bytes)
  const { narHash } = plan
  index.put(plan, { shared: true, inSpool: true })
  told.set(narHash, [PATH])
  await keeper.turn(options)
  later()
  await keeper.turn(options)
  assert.equal(spool.has(narHash), true, 'Nix has not registered it yet')

  valid.set(PATH, { narHash, bytes })
  await keeper.turn(options)
  assert.equal(spool.has(narHash), false)
  await assert.rejects(stat(pathIn(dir, narHash)), { code: 'ENOENT' })
  assert.deepEqual(index.nar(narHash)?.storePaths, [PATH])
  assert.equal(index.nar(narHash)?.inSpool, false)
  const cid = rawCid(plan.leaves.subarray(32, 64))
  assert.deepEqual(await blocks.get(cid, 'shared', options), Buffer.from(leafOf(bytes, 1)))
})

test('a path that is valid with another NarHash is no reason, nor is one that is being read', async (t) => {
  const { spool, told, valid, keeper, later } = await bench(t)
  const { narHash, narSize } = await spooled(spool, bytes)
  told.set(narHash, [PATH])
  valid.set(PATH, { narHash: planOf(noise(5)).narHash, bytes: noise(5) })
  later()
  await keeper.turn(options)
  assert.equal(spool.has(narHash), true)

  valid.set(PATH, { narHash, bytes })
  const reading = spool.read(narHash, { start: 0, end: narSize }, options)[Symbol.asyncIterator]()
  await reading.next()
  later()
  await keeper.turn(options)
  assert.equal(spool.has(narHash), true)
  await reading.return?.()
  later()
  await keeper.turn(options)
  assert.equal(spool.has(narHash), false)
})

test('what came before this start is looked at too, once a minute', async (t) => {
  const { spool, told, valid, keeper, later, db, dir, log, index, time } = await bench(t)
  const { narHash } = await spooled(spool, bytes)
  told.set(narHash, [PATH])
  valid.set(PATH, { narHash, bytes })
  later()
  const again = await openSpool({ db, dir, log, clock: () => time.now })
  const restarted = createSpoolKeeper({
    spool: again,
    index,
    store: storeWith(valid),
    pathsOf: () => [PATH],
    clock: () => time.now,
    log,
  })
  assert.deepEqual(again.young(), [])
  await restarted.turn(options)
  assert.equal(again.has(narHash), false)
  later(SPOOL_TIDY_MS)
  await keeper.turn(options)
})

test('a pinned NAR stays though the store has it', async (t) => {
  const { spool, told, valid, keeper, later } = await bench(t)
  const { narHash } = await spooled(spool, bytes)
  spool.pin(narHash)
  told.set(narHash, [PATH])
  valid.set(PATH, { narHash, bytes })
  later()
  assert.equal((await keeper.gc({ dryRun: false, maxBytes: 0 }, options)).count, 0)
  assert.equal(spool.has(narHash), true)
})

test('who is evicted for room is forgotten by the index, unless a store path has the bytes', async (t) => {
  const { spool, index, valid, keeper, later } = await bench(t)
  const lost = await spooled(spool, noise(2 * LEAF_BYTES, 'lost'))
  const held = await spooled(spool, bytes)
  index.put(lost, { shared: true, inSpool: true })
  index.put(held, { shared: true, inSpool: true, storePath: PATH })
  valid.set(PATH, { narHash: held.narHash, bytes })
  later()
  await spool.trim({ maxBytes: 0 })
  assert.deepEqual(spool.totals(), { count: 0, bytes: 0 })
  assert.equal(index.nar(lost.narHash), undefined)
  assert.deepEqual(index.locate(lost.leaves.subarray(0, 32)), [])
  assert.equal(index.nar(held.narHash)?.inSpool, false)
  assert.equal((await keeper.gc({ dryRun: false }, options)).count, 0)
})

test('gc says the same with --dry-run, and then does it', async (t) => {
  const { spool, told, valid, keeper, later } = await bench(t)
  const imported = await spooled(spool, noise(100, 'imported'))
  told.set(imported.narHash, [PATH])
  valid.set(PATH, { narHash: imported.narHash, bytes: noise(100, 'imported') })
  later(1)
  const oldest = await spooled(spool, noise(200, 'oldest'))
  later(1)
  const newest = await spooled(spool, noise(300, 'newest'))
  const part = planOf(bytes)
  const file = await spool.create(part)
  await file.append(bytes.subarray(0, LEAF_BYTES))
  await file.abandon(new Error('later'), true)
  later(SPOOL_PART_MAX_AGE_MS + 1)

  const expected = [
    { kind: 'nar', narHash: imported.narHash, bytes: 100, reason: 'imported' },
    { kind: 'part', narHash: part.narHash, bytes: LEAF_BYTES, reason: 'expired' },
    { kind: 'nar', narHash: oldest.narHash, bytes: 200, reason: 'room' },
  ]
  const freedBytes = 300 + LEAF_BYTES
  const dry = await keeper.gc({ dryRun: true, maxBytes: 300 }, options)
  assert.deepEqual(dry, { dryRun: true, items: expected, count: 3, freedBytes, leftBytes: 300 })
  assert.equal(spool.totals().count, 3)
  const done = await keeper.gc({ dryRun: false, maxBytes: 300 }, options)
  assert.deepEqual(done, { ...dry, dryRun: false })
  assert.deepEqual([...spool.whole()], [newest.narHash])
  assert.equal((await keeper.gc({ dryRun: false, maxBytes: 300 }, options)).count, 0)
  assert.deepEqual(spool.usage().evicted, 3)
})

test('checking the spool removes NARs whose bytes are wrong and indexes anew what was indexed wrong', async (t) => {
  const { spool, index, log, dir, db } = await bench(t)
  const good = await spooled(spool, noise(3 * LEAF_BYTES, 'good'))
  const rotten = await spooled(spool, noise(2 * LEAF_BYTES, 'rotten'))
  const misindexed = await spooled(spool, bytes)
  const unindexed = await spooled(spool, noise(50, 'unindexed'))
  for (const plan of [good, rotten, misindexed])
    index.put(plan, { shared: true, inSpool: true, storePath: PATH })
  const damaged = noise(2 * LEAF_BYTES, 'rotten')
  damaged[LEAF_BYTES + 7] = (damaged[LEAF_BYTES + 7] ?? 0) ^ 1
  await writeFile(pathIn(dir, rotten.narHash), damaged)
  const nar = db.prepare('SELECT id FROM dag_nar WHERE root = ?').get(misindexed.root.multihash.digest)
  db.prepare('UPDATE dag_leaf SET idx = 0 WHERE idx = 1 AND nar = ?').run(nar?.['id'] ?? assert.fail())

  const report = await checkSpool({ spool, index, log }, options)
  assert.deepEqual([report.nars, report.bytes], [4, good.narSize + rotten.narSize + bytes.length + 50])
  assert.deepEqual(
    new Map(report.bad.map(({ narHash, what }) => [narHash, what])),
    new Map([
      [rotten.narHash, 'bytes'],
      [misindexed.narHash, 'index'],
    ]),
  )
  assert.equal(spool.has(rotten.narHash), false)
  assert.equal(index.nar(rotten.narHash), undefined)
  assert.equal(index.matches(misindexed), true)
  assert.equal(index.locate(misindexed.leaves.subarray(32, 64))[0]?.index, 1)
  const { shared, storePaths } = index.nar(misindexed.narHash) ?? assert.fail()
  assert.deepEqual([shared, storePaths], [true, [PATH]])
  assert.deepEqual((await checkSpool({ spool, index, log }, options)).bad, [])
  for (const { narHash, narSize } of [good, unindexed]) {
    await collect(spool.read(narHash, { start: 0, end: narSize }, options))
  }
})
