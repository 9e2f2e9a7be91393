import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, readFile, readdir, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { LEAF_BYTES, leafCount } from '../../src/dag/profile.ts'
import { SPOOL_SAVE_LEAVES_COUNT } from '../../src/limits.ts'
import { SpoolCorruptError, SpoolWriteError } from '../../src/spool/errors.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { collect, leafOf, noise, options, pathIn, planOf, spoolBench } from './kit.ts'

test('any order of appends and leaves gives the same file', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(5 * LEAF_BYTES + 1234)
  const plan = planOf(nar)
  const count = leafCount(nar.length)
  const step = fc.oneof(
    fc.record({ leaf: fc.nat(count - 1) }),
    fc.record({ append: fc.integer({ min: 0, max: 3 * LEAF_BYTES }) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.boolean(), async (steps, reopen) => {
      let file = await spool.create(plan)
      for (const step of steps) {
        if ('leaf' in step) await file.putLeaf(step.leaf, leafOf(nar, step.leaf))
        else await file.append(nar.subarray(file.prefix, file.prefix + step.append))
        assert.equal(
          Buffer.compare(
            await collect(file.read({ start: 0, end: file.prefix }, options)),
            nar.subarray(0, file.prefix),
          ),
          0,
        )
      }
      if (reopen) {
        const had = Array.from({ length: count }, (_, index) => file.hasLeaf(index))
        await file.abandon(new Error('later'), true)
        file = await spool.create(plan)
        assert.deepEqual(
          Array.from({ length: count }, (_, index) => file.hasLeaf(index)),
          had,
        )
      }
      for (let index = 0; index < count; index++) {
        if (!file.hasLeaf(index)) await file.putLeaf(index, leafOf(nar, index))
      }
      assert.equal(file.prefix, nar.length)
      await file.commit()
      assert.equal(Buffer.compare(await readFile(pathIn(dir, plan.narHash)), nar), 0)
      await spool.remove(plan.narHash)
    }),
    { numRuns: 40 },
  )
})

test('the prefix advances over leaves put earlier, and appended bytes do not touch them', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(4 * LEAF_BYTES)
  const file = await spool.create(planOf(nar))
  await file.putLeaf(2, leafOf(nar, 2))
  assert.equal(file.prefix, 0)
  await file.append(nar.subarray(0, LEAF_BYTES + 10))
  assert.equal(file.prefix, LEAF_BYTES + 10)
  assert.equal(file.hasLeaf(0), true)
  assert.equal(file.hasLeaf(1), false)
  const wrong = Buffer.concat([nar.subarray(LEAF_BYTES + 10, 2 * LEAF_BYTES), Buffer.alloc(LEAF_BYTES + 5)])
  await file.append(wrong)
  assert.equal(file.prefix, 3 * LEAF_BYTES + 5)
  assert.equal(
    Buffer.compare(
      await collect(file.read({ start: 0, end: 3 * LEAF_BYTES }, options)),
      nar.subarray(0, 3 * LEAF_BYTES),
    ),
    0,
  )
  await file.abandon(new Error('enough'))
})

test('writes without waiting for each other end up in order', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(3 * LEAF_BYTES + 10)
  const file = await spool.create(planOf(nar))
  const pieces = Array.from({ length: 40 }, (_, index) => nar.subarray(index * 50_000, (index + 1) * 50_000))
  await Promise.all([
    ...pieces.map((piece) => file.append(piece)),
    file.putLeaf(3, leafOf(nar, 3)),
    file.putLeaf(2, leafOf(nar, 2)),
  ])
  assert.equal(file.prefix, 2_000_000)
  await Promise.all([file.append(nar.subarray(2_000_000, 2 * LEAF_BYTES)), file.commit()])
  assert.equal(Buffer.compare(await collect(file.read({ start: 0, end: nar.length }, options)), nar), 0)
})

test('a reader follows the writer, and finishes after the commit', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(6 * LEAF_BYTES + 1)
  const file = await spool.create(planOf(nar))
  await file.append(nar.subarray(0, 2 * LEAF_BYTES))
  const early = file.read({ start: 0, end: 2 * LEAF_BYTES }, options)[Symbol.asyncIterator]()
  const parts = [(await early.next()).value as Uint8Array]
  const follow = async () => {
    const seen: Uint8Array[] = []
    for (let at = 0; at < nar.length;) {
      const end = file.prefix
      for await (const chunk of file.read({ start: at, end }, options)) seen.push(chunk)
      at = end
      await new Promise(setImmediate)
    }
    return Buffer.concat(seen)
  }
  const following = follow()
  for (let at = 2 * LEAF_BYTES; at < nar.length; at += 300_000)
    await file.append(nar.subarray(at, at + 300_000))
  const lazy = file.read({ start: 0, end: nar.length }, options)
  await file.commit()
  for (let next = await early.next(); next.done !== true; next = await early.next()) parts.push(next.value)
  assert.equal(Buffer.compare(Buffer.concat(parts), nar.subarray(0, 2 * LEAF_BYTES)), 0)
  assert.equal(Buffer.compare(await following, nar), 0)
  assert.equal(Buffer.compare(await collect(lazy), nar), 0)
})

test('what is not on disk yet is not read', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(3 * LEAF_BYTES)
  const file = await spool.create(planOf(nar))
  await file.putLeaf(2, leafOf(nar, 2))
  await file.append(nar.subarray(0, 100))
  for (const [start, end] of [
    [0, 101],
    [100, 101],
    [LEAF_BYTES, 3 * LEAF_BYTES],
    [2 * LEAF_BYTES - 1, 2 * LEAF_BYTES],
    [0, 4 * LEAF_BYTES],
  ] as const) {
    await assert.rejects(collect(file.read({ start, end }, options)), RangeError, `${start}..${end}`)
  }
  assert.equal(
    (await collect(file.read({ start: 2 * LEAF_BYTES, end: 3 * LEAF_BYTES }, options))).length,
    LEAF_BYTES,
  )
  await file.abandon(new Error('enough'))
})

test('bytes of the wrong length or place are refused and change nothing', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(LEAF_BYTES + 10)
  const file = await spool.create(planOf(nar))
  await assert.rejects(file.putLeaf(1, nar.subarray(0, 11)), RangeError)
  await assert.rejects(file.putLeaf(0, nar.subarray(0, 10)), RangeError)
  await assert.rejects(file.putLeaf(2, nar.subarray(0, 10)), RangeError)
  await assert.rejects(file.putLeaf(-1, nar.subarray(0, 10)), RangeError)
  await assert.rejects(file.append(noise(LEAF_BYTES + 11)), RangeError)
  assert.equal(file.prefix, 0)
  await file.append(nar)
  await assert.rejects(file.append(nar.subarray(0, 1)), RangeError)
  await file.commit()
})

test('an incomplete NAR is not committed, and leaves nothing', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(2 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.putLeaf(1, leafOf(nar, 1))
  await assert.rejects(file.commit(), SpoolCorruptError)
  assert.equal(spool.has(plan.narHash), false)
  assert.deepEqual(await readdir(join(dir, plan.narHash.slice(0, 2))), [])
  await assert.rejects(file.append(nar), SpoolWriteError)
  await assert.rejects(file.commit(), SpoolWriteError)
})

test('a file cut behind the writer’s back is not committed', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(2 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar)
  await truncate(pathIn(dir, plan.narHash, true), LEAF_BYTES)
  await assert.rejects(file.commit(), SpoolCorruptError)
  assert.equal(spool.has(plan.narHash), false)
})

test('after abandon readers and writers get the reason, and the file is gone', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(3 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar)
  const reading = file.read({ start: 0, end: nar.length }, options)[Symbol.asyncIterator]()
  await reading.next()
  const reason = new Error('the NarHash is wrong')
  await file.abandon(reason)
  await file.abandon(new Error('twice'))
  await assert.rejects(Promise.resolve(reading.next()), reason)
  await assert.rejects(collect(file.read({ start: 0, end: 1 }, options)), reason)
  await assert.rejects(file.putLeaf(0, leafOf(nar, 0)), (error: Error) => error.cause === reason)
  await assert.rejects(file.commit(), SpoolWriteError)
  await assert.rejects(stat(pathIn(dir, plan.narHash, true)), { code: 'ENOENT' })
})

test('abandon after commit does nothing', async (t) => {
  const { spool } = await spoolBench(t)
  const nar = noise(100)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar)
  await file.commit()
  await file.abandon(new Error('too late'))
  assert.equal(
    Buffer.compare(await collect(spool.read(plan.narHash, { start: 0, end: 100 }, options)), nar),
    0,
  )
})

test('a kept part is taken up after a restart, at whole leaves', async (t) => {
  const { spool, reopen } = await spoolBench(t)
  const nar = noise(4 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar.subarray(0, LEAF_BYTES + 500))
  await file.putLeaf(3, leafOf(nar, 3))
  await file.abandon(new Error('later'), true)
  const again = await (await reopen()).create(plan)
  assert.deepEqual(
    [0, 1, 2, 3].map((index) => again.hasLeaf(index)),
    [true, false, false, true],
  )
  assert.equal(again.prefix, LEAF_BYTES)
  await again.append(nar.subarray(LEAF_BYTES, 3 * LEAF_BYTES))
  assert.equal(again.prefix, nar.length)
  assert.equal(Buffer.compare(await collect(again.read({ start: 0, end: nar.length }, options)), nar), 0)
  await again.commit()
})

test('a kept part of another size, or that is no plain file, or too long, is not taken up', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(2 * LEAF_BYTES)
  const plan = planOf(nar)
  const path = pathIn(dir, plan.narHash, true)
  const keep = async () => {
    const file = await spool.create(plan)
    await file.putLeaf(0, leafOf(nar, 0))
    await file.abandon(new Error('later'), true)
  }
  const victim = join(dirname(dir), 'victim')
  await writeFile(victim, 'precious')
  for (const [name, damage] of Object.entries({
    symlink: async () => {
      await rm(path)
      await symlink(victim, path)
    },
    folder: async () => {
      await rm(path)
      await mkdir(path)
    },
    long: () => truncate(path, 3 * LEAF_BYTES),
    gone: () => rm(path),
  })) {
    await keep()
    await damage()
    const file = await spool.create(plan)
    assert.equal(file.hasLeaf(0), false, name)
    await file.append(nar)
    await file.commit()
    assert.equal(Buffer.compare(await readFile(pathIn(dir, plan.narHash)), nar), 0, name)
    await spool.remove(plan.narHash)
  }
  assert.equal(await readFile(victim, 'utf8'), 'precious')

  await keep()
  const other = await spool.create({ narHash: plan.narHash, narSize: 2 * LEAF_BYTES + 1 })
  assert.equal(other.hasLeaf(0), false)
  await other.abandon(new Error('enough'))
})

test('a part that turns out damaged when it is read is not kept', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(3 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar.subarray(0, 2 * LEAF_BYTES))
  await truncate(pathIn(dir, plan.narHash, true), 10)
  await assert.rejects(collect(file.read({ start: 0, end: 100 }, options)), SpoolCorruptError)
  await file.abandon(new Error('later'), true)
  await assert.rejects(stat(pathIn(dir, plan.narHash, true)), { code: 'ENOENT' })
  const again = await spool.create(plan)
  assert.equal(again.prefix, 0)
  await again.abandon(new Error('enough'))
})

test('leaves past the end of a shortened part stay forgotten when the file grows over them', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(4 * LEAF_BYTES)
  const plan = planOf(nar)
  const path = pathIn(dir, plan.narHash, true)
  const first = await spool.create(plan)
  await first.append(nar.subarray(0, 3 * LEAF_BYTES))
  await first.abandon(new Error('later'), true)
  await truncate(path, LEAF_BYTES + 1)
  const second = await spool.create(plan)
  assert.equal(second.prefix, LEAF_BYTES)
  // Crash of the second writer after a leaf further on: its own bits are not saved, the hole is there.
  await second.putLeaf(3, leafOf(nar, 3))
  const copy = await openSpool({
    db: openDatabase(join(dirname(dir), 'state.sqlite')),
    dir,
    log: recordingLog(),
  })
  const third = await copy.create(plan)
  assert.deepEqual(
    [0, 1, 2, 3].map((index) => third.hasLeaf(index)),
    [true, false, false, false],
  )
  await third.abandon(new Error('enough'))
  await second.abandon(new Error('enough'))
})

test('a part that cannot be made is an error that names the file, and no writer is left behind', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const plan = planOf(noise(100))
  const folder = join(dir, plan.narHash.slice(0, 2))
  await writeFile(folder, 'a file where a folder should be')
  await assert.rejects(
    spool.create(plan),
    (error: Error) => error instanceof SpoolWriteError && error.message.includes(plan.narHash),
  )
  await rm(folder)
  await (await spool.create(plan)).abandon(new Error('enough'))
})

test('kill -9 of the writer loses at most what was not noted, and no noted leaf is wrong', async (t) => {
  const root = await tempDir(t)
  const dir = join(root, 'spool')
  const size = 3 * SPOOL_SAVE_LEAVES_COUNT * LEAF_BYTES
  const script = `
    const { openSpool, openDatabase, noise, planOf, root, dir, size } = await (async () => ({
      ...(await import(process.argv[1] + 'src/spool/spool.ts')),
      ...(await import(process.argv[1] + 'src/state/database.ts')),
      ...(await import(process.argv[1] + 'test/spool/kit.ts')),
      root: process.argv[2], dir: process.argv[2] + '/spool', size: Number(process.argv[3]),
    }))()
    const log = { debug() {}, info() {}, warn() {}, error() {} }
    const nar = noise(size)
    const db = openDatabase(root + '/state.sqlite')
    const spool = await openSpool({ db, dir, log })
    const noted = db.prepare('SELECT 1 FROM spool_part WHERE bytes > 0')
    const file = await spool.create(planOf(nar))
    for (let at = 0; at < size; at += 700_000) {
      await file.append(nar.subarray(at, at + 700_000))
      if (noted.get()) process.stdout.write('.')
    }
    while (!noted.get()) await new Promise(resolve => setTimeout(resolve, 5))
    process.stdout.write('.')
    setInterval(() => {}, 1000)`
  const top = new URL('../../', import.meta.url).href
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, top, root, String(size)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const exit = once(child, 'exit')
  await Promise.race([once(child.stdout, 'data'), exit])
  child.kill('SIGKILL')
  assert.deepEqual(await exit, [null, 'SIGKILL'])

  const db = openDatabase(join(root, 'state.sqlite'))
  t.after(() => db.close())
  const spool = await openSpool({ db, dir, log: recordingLog() })
  const nar = noise(size)
  const file = await spool.create(planOf(nar))
  const kept = file.prefix
  assert.ok(kept >= SPOOL_SAVE_LEAVES_COUNT * LEAF_BYTES, `only ${kept} bytes were kept`)
  assert.equal(
    Buffer.compare(await collect(file.read({ start: 0, end: kept }, options)), nar.subarray(0, kept)),
    0,
  )
  await file.append(nar.subarray(kept))
  await file.commit()
  const handle = await open(pathIn(dir, planOf(nar).narHash))
  assert.equal(Buffer.compare(await handle.readFile(), nar), 0)
  await handle.close()
})

test('what changes the file after its commit is noticed by who reads on, and by the seal', async (t) => {
  const { spool, dir } = await spoolBench(t)
  const nar = noise(2 * LEAF_BYTES)
  const plan = planOf(nar)
  const file = await spool.create(plan)
  await file.append(nar)
  assert.equal(spool.seal(plan.narHash), undefined)
  await file.commit()
  const sealed = spool.seal(plan.narHash)
  assert.ok(sealed)
  const whole = { start: 0, end: nar.length }
  assert.equal(Buffer.compare(await collect(spool.read(plan.narHash, whole, { ...options, sealed })), nar), 0)
  const handle = await open(pathIn(dir, plan.narHash), 'r+')
  await handle.write(Buffer.of((nar[9] ?? 0) ^ 1), 0, 1, 9)
  await handle.close()
  await assert.rejects(collect(file.read(whole, options)), SpoolCorruptError)
  await assert.rejects(collect(spool.read(plan.narHash, whole, { ...options, sealed })), SpoolCorruptError)
  await spool.remove(plan.narHash)
  assert.equal(spool.seal(plan.narHash), undefined)
})
