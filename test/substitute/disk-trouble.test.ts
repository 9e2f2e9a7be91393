/** Disks that are full, read-only or failing: what Nix gets then is the NAR or a fast miss, never wrong bytes. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, mkdtemp, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { SPOOL_BACK_OFF_MS } from '../../src/limits.ts'
import { forgetfulIndex } from '../../src/spool/forgetful-index.ts'
import type { SpoolDeps } from '../../src/spool/spool.ts'
import { spoolLimits } from '../../src/spool/quota.ts'
import { createBestEffort } from '../../src/state/best-effort.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { NoSourceError } from '../../src/substitute/errors.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { collect, noise, options, pathIn, planOf, store as spooled } from '../spool/kit.ts'
import { engine, MIB, narInfoOf, pathNamed, stream, tells, testPolicy, until } from './kit.ts'
import type { Engine } from './kit.ts'

interface World {
  readonly one: Engine
  readonly fetch: (name: string) => Promise<Buffer>
  /** Errors in the log. */
  readonly errors: () => string[]
}

/** An engine that can have these NARs from an upstream. */
async function world(
  t: TestContext,
  nars: Record<string, Buffer>,
  spool: Partial<SpoolDeps>,
): Promise<World> {
  const known = Object.entries(nars).map(([name, bytes]) => {
    const info = narInfoOf(planOf(bytes), name)
    return [name, { info, bytes, source: stream(`upstream-${name}`, bytes) }] as const
  })
  const sources = known.map(([, { info, source }]) => tells(source.id, source.cost, { info, stream: source }))
  const one = await engine(t, { sources, spool })
  const byName = new Map(known)
  return {
    one,
    async fetch(name) {
      const { info } = byName.get(name) ?? assert.fail()
      await one.resolver.byHashPart(hashPartOf(info.storePath), options)
      const transfer = await one.transfers.open(testPolicy.verify(info), undefined, options)
      try {
        return await collect(transfer.read({ start: 0, end: info.narSize }, options))
      } finally {
        await until(() => one.transfers.running() === 0)
      }
    },
    errors: () => one.log.lines.filter(({ level }) => level === 'error').map(({ message }) => message),
  }
}

/** @returns its folder, or undefined where we may not mount */
async function mounted(t: TestContext, ...args: string[]): Promise<string | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-mount-'))
  try {
    execFileSync('mount', [...args, dir], { stdio: 'ignore' })
  } catch {
    await rmdir(dir)
    t.skip('needs root and the right to mount')
    return undefined
  }
  // Never a recursive removal: what is mounted may be somebody else's.
  t.after(async () => {
    execFileSync('umount', ['--lazy', dir])
    await rmdir(dir)
  })
  return dir
}

function failing(code: string, broken: { now: boolean }, ...methods: (keyof FileHandle)[]) {
  return (handle: FileHandle): FileHandle =>
    new Proxy(handle, {
      get(target, name) {
        if (broken.now && methods.includes(name as keyof FileHandle)) {
          return () => Promise.reject(Object.assign(new Error(`${code}: injected`), { code }))
        }
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
}

const nars = Object.fromEntries(
  ['a', 'b', 'c', 'd'].map((name) => [name, noise(3 * MIB + 77, `nar ${name}`)] as const),
)
const right = (name: string): Buffer => nars[name] ?? assert.fail()

describe('a full disk', () => {
  it('makes room for each NAR that fits, and refuses one that cannot, with nothing of it left', async (t) => {
    const dir = await mounted(t, '-t', 'tmpfs', '-o', 'size=8m', 'none')
    if (dir === undefined) return
    const large = { large: noise(9 * MIB, 'large') }
    const limits = spoolLimits(dir, { maxBytes: 2 ** 40, minFreeBytes: 0 })
    const { one, fetch, errors } = await world(t, { ...nars, ...large }, { dir: join(dir, 'spool'), limits })
    for (const name of ['a', 'b', 'c', 'd']) assert.ok((await fetch(name)).equals(right(name)), name)
    await assert.rejects(fetch('large'), NoSourceError)
    await assert.rejects(fetch('large'), NoSourceError)
    assert.equal(errors().length, 1, errors().join('\n'))
    assert.equal(one.spool.usage().parts, 0)
    assert.ok((await fetch('a')).equals(right('a')))
  })

  it('by others, in the middle of a NAR: the least recently used go, and the NAR goes on', async (t) => {
    const dir = await mounted(t, '-t', 'tmpfs', '-o', 'size=8m', 'none')
    if (dir === undefined) return
    const { one, fetch, errors } = await world(t, nars, {
      dir: join(dir, 'spool'),
      limits: { maxBytes: 2 ** 40, minFreeBytes: 0 },
      // Blind, so that the disk itself has to say it.
      freeBytes: () => undefined,
    })
    assert.ok((await fetch('a')).equals(right('a')))
    assert.ok((await fetch('b')).equals(right('b')))
    assert.ok((await fetch('c')).equals(right('c')))
    assert.equal(one.spool.totals().count, 2)
    assert.deepEqual(errors(), [])
  })

  it('without anything to evict: a miss, told once, and at once for a while after it', async (t) => {
    const dir = await mounted(t, '-t', 'tmpfs', '-o', 'size=2m', 'none')
    if (dir === undefined) return
    const { fetch, errors } = await world(t, nars, {
      dir: join(dir, 'spool'),
      limits: { maxBytes: 2 ** 40, minFreeBytes: 0 },
      freeBytes: () => undefined,
    })
    // Some bytes may have gone out: then it breaks off.
    await assert.rejects(fetch('a'))
    for (const name of ['a', 'b', 'c']) await assert.rejects(fetch(name), NoSourceError)
    assert.equal(errors().length, 1, errors().join('\n'))
    assert.match(errors()[0] ?? '', /the disk does not take NARs.*ENOSPC/)
  })
})

describe('a read-only disk', () => {
  it('serves what is here, and misses the rest at once', async (t) => {
    const source = await tempDir(t)
    const first = await world(t, nars, { dir: source })
    await spooled(first.one.spool, right('a'))
    // For the sweep, which cannot remove it.
    await writeFile(`${pathIn(source, planOf(right('a')).narHash)}.part`, 'x')

    const dir = await mounted(t, '--bind', source)
    if (dir === undefined) return
    execFileSync('mount', ['-o', 'remount,ro,bind', dir])
    await assert.rejects(mkdir(join(dir, 'x')), { code: 'EROFS' })
    const { one, fetch, errors } = await world(t, nars, { dir })
    assert.ok((await fetch('a')).equals(right('a')))
    for (const name of ['b', 'c', 'b']) await assert.rejects(fetch(name), NoSourceError)
    assert.equal(errors().length, 1, errors().join('\n'))
    assert.match(errors()[0] ?? '', /the disk does not take NARs.*EROFS/)
    assert.ok((await fetch('a')).equals(right('a')))
    // Eviction that the disk does not allow breaks nothing.
    await one.spool.trim({ maxBytes: 0 })
  })
})

describe('a disk that fails', () => {
  const faults: Record<string, (keyof FileHandle)[]> = {
    'at writing': ['write'],
    'at fsync': ['sync'],
    'at fdatasync and fsync': ['datasync', 'sync'],
  }
  for (const [name, methods] of Object.entries(faults)) {
    it(`${name}: no wrong byte, no part, no row; right again once it recovers`, async (t) => {
      let now = Date.now()
      const broken = { now: true }
      const { one, fetch, errors } = await world(t, nars, {
        clock: () => now,
        wrapHandle: failing('EIO', broken, ...methods),
      })
      // The bytes are proved before the sync that fails: a reader may have them all, or breaks off.
      const got = await fetch('a').catch(() => undefined)
      assert.ok(got === undefined || got.equals(right('a')))
      assert.deepEqual(one.spool.totals(), { count: 0, bytes: 0 })
      assert.equal(one.spool.usage().parts, 0)
      await assert.rejects(fetch('b'), NoSourceError)
      assert.equal(errors().filter((line) => line.startsWith('spool:')).length, 1, errors().join('\n'))

      broken.now = false
      now += SPOOL_BACK_OFF_MS
      assert.ok((await fetch('b')).equals(right('b')))
      assert.equal(one.spool.totals().count, 1)
    })
  }
  it('while the clock was days ahead is asked again once the clock is right', async (t) => {
    let now = Date.now() + 4 * 24 * 3600_000
    const broken = { now: true }
    const { fetch } = await world(t, nars, {
      clock: () => now,
      wrapHandle: failing('EIO', broken, 'write'),
    })
    await assert.rejects(fetch('a'))
    await assert.rejects(fetch('b'), NoSourceError)
    broken.now = false
    now = Date.now()
    assert.ok((await fetch('b')).equals(right('b')))
  })
})

describe('a database that takes no rows', () => {
  it('costs no answer: NARs come, are kept, and are found again by the next start', async (t) => {
    const { one, fetch, errors } = await world(t, nars, {})
    assert.ok((await fetch('a')).equals(right('a')))
    one.db.exec('PRAGMA query_only = ON')
    const file = await one.spool.create(planOf(right('b')))
    await file.append(right('b'))
    await file.commit()
    assert.equal(one.spool.has(planOf(right('b')).narHash), true)
    assert.equal(one.spool.totals().count, 2)
    assert.ok(
      (await collect(one.spool.read(planOf(right('b')).narHash, { start: 0, end: 100 }, options))).length,
    )
    assert.equal(errors().length, 1)
    assert.match(errors()[0] ?? '', /takes no rows.*what is here is served/)

    one.db.exec('PRAGMA query_only = OFF')
    const again = await one.reopen()
    assert.equal(again.has(planOf(right('b')).narHash), true)
  })

  it('costs no narinfo and no look-up in the index', async (t) => {
    const { one } = await world(t, nars, {})
    const log = recordingLog()
    const tableLog = recordingLog()
    const bestEffort = createBestEffort({ log, clock: Date.now })
    const index = forgetfulIndex(one.index, bestEffort)
    const plan = planOf(right('a'))
    index.put(plan, { shared: false, inSpool: true })
    // As many pages as it has: SQLITE_FULL.
    const { page_count: pages } = one.db.prepare('PRAGMA page_count').get() ?? {}
    one.db.exec(`PRAGMA max_page_count = ${Number(pages)}`)
    const table = createNarInfoTable({ db: one.db, clock: Date.now, log: tableLog }, { storeDir: STORE_DIR })
    for (let n = 0; n < 500; n++) {
      table.put(testPolicy.verify(narInfoOf(plan, `full-${n}`)))
      index.addPath(plan.narHash, pathNamed(`full-${n}`))
    }
    assert.deepEqual(index.nar(plan.narHash)?.root, plan.root)
    assert.equal(log.lines.length, 1)
    assert.match(log.lines[0]?.message ?? '', /full/)
    assert.throws(() => bestEffort(() => one.db.exec('nonsense')), /syntax/)
  })
})
