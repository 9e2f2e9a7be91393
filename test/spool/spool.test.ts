import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmod,
  mkdir,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { SPOOL_TOUCH_MS } from '../../src/limits.ts'
import { narHashDigest } from '../../src/nix/hash.ts'
import { SpoolBusyError, SpoolCorruptError, SpoolMissError } from '../../src/spool/errors.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { collect, leafOf, noise, options, pathIn, planOf, spoolBench, store } from './kit.ts'

test('a committed NAR is whole, private and read back in any range', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(2 * LEAF_BYTES + 77)
  const { narHash, narSize } = await store(spool, nar)
  assert.equal(spool.has(narHash), true)
  assert.deepEqual(spool.totals(), { count: 1, bytes: narSize })
  assert.equal((await stat(pathIn(dir, narHash))).mode & 0o777, 0o600)
  assert.deepEqual(await readdir(join(dir, narHash.slice(0, 2))), [`${narHash}.nar`])
  for (const [start, end] of [
    [0, narSize],
    [0, 0],
    [narSize, narSize],
    [5, 6],
    [LEAF_BYTES - 1, LEAF_BYTES + 1],
    [LEAF_BYTES, narSize],
  ] as const) {
    const bytes = await collect(spool.read(narHash, { start, end }, options))
    assert.equal(Buffer.compare(bytes, nar.subarray(start, end)), 0, `${start}..${end}`)
  }
})

for (const range of [
  { start: 0, end: 101 },
  { start: -1, end: 5 },
  { start: 6, end: 5 },
  { start: 0.5, end: 5 },
]) {
  test(`a range that is not one of a NAR of 100 bytes is refused: ${range.start}..${range.end}`, async (t) => {
    const { spool } = await spoolBench(t)
    const { narHash } = await store(spool, noise(100))
    await assert.rejects(collect(spool.read(narHash, range, options)), RangeError)
  })
}

for (const narSize of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
  test(`a NAR of ${narSize} bytes is refused and leaves no writer behind`, async (t) => {
    const { spool } = await spoolBench(t)
    const { narHash } = planOf(noise(10))
    await assert.rejects(spool.create({ narHash, narSize }), RangeError)
    await (await spool.create({ narHash, narSize: 10 })).abandon(new Error('enough'))
  })
}

test('a NAR has one writer at a time', async (t) => {
  const { spool } = await spoolBench(t)
  const plan = planOf(noise(100))
  const first = await spool.create(plan)
  await assert.rejects(spool.create(plan), SpoolBusyError)
  await first.abandon(new Error('enough'))
  const second = await spool.create(plan)
  await second.append(noise(100))
  await second.commit()
  assert.equal(spool.has(plan.narHash), true)
})

test('a NAR that is not there is a miss', async (t) => {
  const { spool } = await spoolBench(t)
  const { narHash } = planOf(noise(100))
  assert.equal(spool.has(narHash), false)
  await assert.rejects(collect(spool.read(narHash, { start: 0, end: 1 }, options)), SpoolMissError)
})

test('a removed NAR is gone, and who reads it reads on', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(3 * LEAF_BYTES)
  const { narHash, narSize } = await store(spool, nar)
  const reading = spool.read(narHash, { start: 0, end: narSize }, options)[Symbol.asyncIterator]()
  const parts = [(await reading.next()).value as Uint8Array]
  await spool.remove(narHash)
  assert.equal(spool.has(narHash), false)
  await assert.rejects(stat(pathIn(dir, narHash)), { code: 'ENOENT' })
  for (let next = await reading.next(); next.done !== true; next = await reading.next())
    parts.push(next.value)
  assert.equal(Buffer.compare(Buffer.concat(parts), nar), 0)
})

test('a NAR that is whole can be written anew', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(LEAF_BYTES + 5)
  const { narHash, narSize } = await store(spool, nar)
  await writeFile(pathIn(dir, narHash), Buffer.alloc(narSize))
  await store(spool, nar)
  assert.equal(Buffer.compare(await readFile(pathIn(dir, narHash)), nar), 0)
  assert.deepEqual(spool.totals(), { count: 1, bytes: narSize })
})

const damages: Record<string, (path: string) => Promise<void>> = {
  gone: (path) => rm(path),
  truncated: (path) => truncate(path, 100),
  empty: (path) => truncate(path, 0),
  longer: (path) => truncate(path, 10 * LEAF_BYTES),
  'a symlink to the right bytes': async (path) => {
    await rename(path, `${path}.real`)
    await symlink(`${path}.real`, path)
  },
  'a folder': async (path) => {
    await rm(path)
    await mkdir(join(path, 'below'), { recursive: true })
  },
  'a FIFO': async (path) => {
    await rm(path)
    assert.equal(spawnSync('mkfifo', [path]).status, 0)
  },
}
for (const [name, damage] of Object.entries(damages)) {
  test(`a file that is ${name} is told, forgotten and can be made again`, async (t) => {
    const { spool, dir, log } = await spoolBench(t)
    const nar = noise(2 * LEAF_BYTES)
    const { narHash } = await store(spool, nar)
    await damage(pathIn(dir, narHash))
    await assert.rejects(collect(spool.read(narHash, { start: 0, end: 10 }, options)), SpoolCorruptError)
    assert.equal(spool.has(narHash), false)
    assert.deepEqual(
      log.lines.map((line) => line.level),
      ['warn'],
    )
    await assert.rejects(stat(pathIn(dir, narHash)), { code: 'ENOENT' })
    await store(spool, nar)
    assert.equal(
      Buffer.compare(await collect(spool.read(narHash, { start: 0, end: nar.length }, options)), nar),
      0,
    )
  })
}

test('a file that is cut while it is read ends in an error, never in silence', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const { narHash, narSize } = await store(spool, noise(3 * LEAF_BYTES))
  const reading = spool.read(narHash, { start: 0, end: narSize }, options)[Symbol.asyncIterator]()
  await reading.next()
  await truncate(pathIn(dir, narHash), LEAF_BYTES + 1)
  await assert.rejects(Promise.resolve(reading.next()), SpoolCorruptError)
})

test('an aborted read stops', async (t) => {
  const { spool } = await spoolBench(t)
  const { narHash, narSize } = await store(spool, noise(3 * LEAF_BYTES))
  const controller = new AbortController()
  const reading = spool.read(narHash, { start: 0, end: narSize }, controller)[Symbol.asyncIterator]()
  await reading.next()
  controller.abort()
  await assert.rejects(Promise.resolve(reading.next()), { name: 'AbortError' })
  assert.equal(spool.has(narHash), true)
})

test('opening adopts whole files without rows, sweeps parts without rows and rows without files, and nothing else', async (t) => {
  const { spool, dir, db, log, reopen } = await spoolBench(t)
  const kept = await store(spool, noise(200, 'kept'))
  const lost = await store(spool, noise(200, 'lost'))
  const unrecorded = await store(spool, noise(200, 'unrecorded'))
  const short = await store(spool, noise(200, 'short'))
  const part = planOf(noise(2 * LEAF_BYTES, 'part'))
  const partFile = await spool.create(part)
  await partFile.putLeaf(1, leafOf(noise(2 * LEAF_BYTES, 'part'), 1))
  await partFile.abandon(new Error('later'), true)
  const orphan = planOf(noise(2 * LEAF_BYTES, 'orphan'))
  await mkdir(join(dir, orphan.narHash.slice(0, 2)), { recursive: true })
  await writeFile(pathIn(dir, orphan.narHash, true), 'x')
  await writeFile(join(dir, kept.narHash.slice(0, 2), 'notes.txt'), 'not ours')
  await rm(pathIn(dir, lost.narHash))
  await truncate(pathIn(dir, short.narHash), 199)
  db.prepare('DELETE FROM spool_nar WHERE hash = ?').run(narHashDigest(unrecorded.narHash))

  const again = await reopen()
  assert.equal(again.has(kept.narHash), true)
  assert.equal(again.has(lost.narHash), false)
  assert.equal(again.has(short.narHash), false)
  assert.equal(again.has(unrecorded.narHash), true)
  const files = (await readdir(dir, { recursive: true, withFileTypes: true })).filter((file) => file.isFile())
  assert.deepEqual(
    files.map((file) => file.name).sort(),
    [`${kept.narHash}.nar`, `${unrecorded.narHash}.nar`, `${part.narHash}.nar.part`, 'notes.txt'].sort(),
  )
  assert.deepEqual(
    log.lines.map((line) => line.fields),
    [{ files: 2, wholeLost: 2, partsLost: 0, adopted: 1 }],
  )
  const resumed = await again.create(part)
  assert.equal(resumed.hasLeaf(1), true)
  await resumed.abandon(new Error('enough'))
})

test('a read-only spool reads what the owner commits, refuses writes and leaves everything where it is', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const db = openDatabase(join(dir, '..', 'state.sqlite'), { readOnly: true })
  t.after(() => db.close())
  await mkdir(join(dir, '00'), { recursive: true })
  const orphan = pathIn(dir, `00${'0'.repeat(50)}`)
  await writeFile(orphan, 'x')
  const reader = await openSpool({ db, dir, log: recordingLog(), readOnly: true })
  await stat(orphan)

  const nar = noise(LEAF_BYTES + 9)
  const { narHash } = await store(spool, nar)
  assert.equal(reader.has(narHash), true)
  assert.equal(
    Buffer.compare(await collect(reader.read(narHash, { start: 0, end: nar.length }, options)), nar),
    0,
  )
  await assert.rejects(reader.create(planOf(noise(100))), TypeError)
  await assert.rejects(reader.remove(narHash), TypeError)

  await truncate(pathIn(dir, narHash), 10)
  await assert.rejects(collect(reader.read(narHash, { start: 0, end: 5 }, options)), SpoolCorruptError)
  await stat(pathIn(dir, narHash))
})

test('last use is noted, but not at each read', async (t) => {
  const { dir, db } = await spoolBench(t)
  let now = 1_000_000
  const spool = await openSpool({ db, dir, log: recordingLog(), clock: () => now })
  const { narHash } = await store(spool, noise(100))
  const lastUsed = () => db.prepare('SELECT last_used FROM spool_nar').get()?.['last_used']
  now += SPOOL_TOUCH_MS
  await collect(spool.read(narHash, { start: 0, end: 1 }, options))
  assert.equal(lastUsed(), 1_000_000)
  now += 1
  await collect(spool.read(narHash, { start: 0, end: 1 }, options))
  assert.equal(lastUsed(), now)
})

test(
  'a file of the wrong mode is no way around the checks',
  { skip: process.getuid?.() === 0 && 'root may read all' },
  async (t) => {
    const { spool, dir } = await spoolBench(t)
    const { narHash } = await store(spool, noise(100))
    await chmod(pathIn(dir, narHash), 0)
    await assert.rejects(collect(spool.read(narHash, { start: 0, end: 5 }, options)), SpoolCorruptError)
    assert.equal(spool.has(narHash), false)
  },
)
