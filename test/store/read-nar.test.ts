import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { appendFile, chmod, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import * as fc from 'fast-check'
import { STORE_READ_BYTES } from '../../src/limits.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { NarTreeError } from '../../src/nix/nar-layout.ts'
import { createNarReader } from '../../src/nix/nar-reader.ts'
import { parseStorePath, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { StorePathChangedError, StorePathNotValidError } from '../../src/store/errors.ts'
import { openLocalStore } from '../../src/store/local-store.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { bytesOf, infoOf, realStore } from './real-store.ts'
import type { RealStore } from './real-store.ts'

const options = { signal: new AbortController().signal }

/** What is added to the store, by title. */
const TREES: Record<string, (path: string) => Promise<unknown>> = {
  'a regular file': (path) => writeFile(path, 'hello'),
  'an empty file': (path) => writeFile(path, ''),
  'an executable': (path) => writeFile(path, '#!/bin/sh\n', { mode: 0o755 }),
  'a file whose group alone may execute': (path) => writeFile(path, '#!/bin/sh\n', { mode: 0o654 }),
  'a symlink': (path) => symlink('/nowhere/at all', path),
  'an empty directory': (path) => mkdir(path),
  'a file of 3 MiB and a byte': (path) => writeFile(path, randomBytes(3 * 2 ** 20 + 1)),
  'names that are not UTF-8': async (path) => {
    const bytes = (name: string): Buffer =>
      Buffer.concat([Buffer.from(`${path}/`), Buffer.from(name, 'latin1')])
    await mkdir(path)
    await mkdir(bytes('\xff\xfe'))
    await writeFile(bytes('\xff\xfe/inside'), 'below a name that is not UTF-8')
    await writeFile(bytes('\xff\xfe/\xc3\xa4'), 'large'.repeat(100_000))
    await writeFile(bytes('\xc3\xa4'), 'UTF-8')
    await writeFile(bytes('new\nline'), 'control')
    await symlink(Buffer.from('\xfftarget', 'latin1'), bytes('\xe4'))
  },
  'names whose order differs by UTF-16': async (path) => {
    await mkdir(path)
    for (const name of ['\u{10000}', '\uffff', 'a', 'a.b', 'a-b', 'B'])
      await writeFile(join(path, name), name)
  },
  'files of every padding': async (path) => {
    await mkdir(join(path, 'a/b/c'), { recursive: true })
    for (let size = 0; size <= 17; size += 1)
      await writeFile(join(path, 'a/b', `f${size}`), randomBytes(size))
    await writeFile(join(path, 'large'), randomBytes(300_001))
  },
  '2,000 small files': async (path) => {
    await mkdir(path)
    for (let index = 0; index < 2000; index += 1)
      await writeFile(join(path, `file-${index}`), randomBytes(index), {
        mode: index % 3 === 0 ? 0o755 : 0o644,
      })
  },
}

async function addTree(store: RealStore, title: string): Promise<StorePath> {
  const source = join(store.sources, title.replaceAll(/[^0-9a-z]/gi, '-'))
  await TREES[title]?.(source)
  return store.add(source)
}

describe('readNar', { skip: skipWithoutNix() }, () => {
  for (const title of Object.keys(TREES))
    it(`gives the bytes of nix-store --dump for ${title}`, async (t) => {
      const store = await realStore(t)
      const path = await addTree(store, title)
      const local = store.open()
      const info = infoOf(local, path)
      const chunks = await Array.fromAsync(local.readNar(path, undefined, options))
      const nar = Buffer.concat(chunks)
      assert.ok(nar.equals(store.dump(path)))
      assert.equal(nar.length, info.narSize)
      assert.equal(narHashFromDigest(createHash('sha256').update(nar).digest()), info.narHash)
      assert.ok(chunks.slice(0, -1).every(({ length }) => length === STORE_READ_BYTES))
      const reader = createNarReader({ narSize: info.narSize })
      for (const chunk of chunks) reader.push(chunk)
      reader.end()
    })

  for (const title of ['files of every padding', '2,000 small files', 'a file of 3 MiB and a byte'])
    it(`gives any range of ${title}`, async (t) => {
      const store = await realStore(t)
      const path = await addTree(store, title)
      const local = store.open()
      const whole = store.dump(path)
      const offset = fc.nat(whole.length)
      await fc.assert(
        fc.asyncProperty(offset, offset, async (one, other) => {
          const range = { start: Math.min(one, other), end: Math.max(one, other) }
          const slice = await bytesOf(local.readNar(path, range, options))
          assert.ok(slice.equals(whole.subarray(range.start, range.end)))
        }),
      )
      const after = { start: 0, end: whole.length + 1 }
      await assert.rejects(bytesOf(local.readNar(path, after, options)), RangeError)
    })

  it('lets others have a turn while it walks and reads', async (t) => {
    const store = await realStore(t)
    const path = await addTree(store, '2,000 small files')
    const local = store.open()
    let turns = 0
    let reading = true
    const turn = (): void => {
      turns += 1
      if (reading) setImmediate(turn)
    }
    setImmediate(turn)
    await bytesOf(local.readNar(path, undefined, options))
    reading = false
    // 200 entries a turn: 10 for the walk, 9 or 10 for the contents.
    assert.ok(turns > 15, `${turns} turns`)
  })

  it('gives the same bytes to readers that begin together', async (t) => {
    const store = await realStore(t)
    const path = await addTree(store, 'files of every padding')
    const local = store.open()
    const nars = await Promise.all([1, 2, 3, 4].map(() => bytesOf(local.readNar(path, undefined, options))))
    for (const nar of nars) assert.ok(nar.equals(store.dump(path)))
  })

  it('finds the files of another store directory below the root where Nix puts them', async (t) => {
    const store = await realStore(t)
    const source = join(store.sources, 'elsewhere')
    await writeFile(source, 'elsewhere')
    const uri = `local?root=${store.root}&store=/foo/store`
    const absolute = execFileSync('nix-store', ['--store', uri, '--add', source]).toString().trim()
    const path = parseStorePath(absolute, '/foo/store')
    const local = openLocalStore({ storeDir: '/foo/store', root: store.root }, { log: recordingLog() })
    t.after(() => local.close())
    const nar = await bytesOf(local.readNar(path, undefined, options))
    assert.equal(narHashFromDigest(createHash('sha256').update(nar).digest()), infoOf(local, path).narHash)
  })

  it('refuses a path that is on disk but not valid', async (t) => {
    const store = await realStore(t)
    const path = parseStorePathBaseName('0c5b8vw40dy178xlpddw65q9gf1h2186-unregistered')
    await writeFile(store.physical(path), 'x')
    await assert.rejects(bytesOf(store.open().readNar(path, undefined, options)), StorePathNotValidError)
  })

  it('stops at the next chunk when it is aborted', async (t) => {
    const store = await realStore(t)
    const path = await addTree(store, 'a file of 3 MiB and a byte')
    const local = store.open()
    const abort = new AbortController()
    let chunks = 0
    await assert.rejects(
      async () => {
        for await (const chunk of local.readNar(path, undefined, { signal: abort.signal })) {
          chunks += chunk.length > 0 ? 1 : 0
          abort.abort()
        }
      },
      { name: 'AbortError' },
    )
    assert.equal(chunks, 1)
  })

  const DISTURBANCES: Record<string, (file: string) => Promise<unknown>> = {
    'has grown': (file) => appendFile(file, 'x'),
    'has shrunk': (file) => truncate(file, 2 ** 20),
    'has vanished': (file) => rm(file),
    'has become a symlink to its likeness': async (file) => {
      await rename(file, `${file}.moved`)
      await symlink(`${file}.moved`, file)
    },
    'has become a directory': async (file) => {
      await rm(file)
      await mkdir(file)
    },
    'has become a FIFO': async (file) => {
      await rm(file)
      execFileSync('mkfifo', [file])
    },
  }
  for (const [title, disturb] of Object.entries(DISTURBANCES))
    it(`breaks off in mid-stream when a file ${title}`, async (t) => {
      const { store, path, file } = await withLargeFile(t)
      const local = store.open()
      let bytes = 0
      await assert.rejects(async () => {
        for await (const chunk of local.readNar(path, undefined, options)) {
          if (bytes === 0) await disturb(file)
          bytes += chunk.length
        }
      }, StorePathChangedError)
      assert.equal(bytes, STORE_READ_BYTES)
    })

  it('gives no byte of a path whose files do not make the NarSize that is registered', async (t) => {
    const { store, path, file } = await withLargeFile(t)
    await appendFile(file, 'more than its padding')
    await assert.rejects(store.open().readNar(path, undefined, options)[Symbol.asyncIterator]().next(), {
      name: 'StorePathChangedError',
      message: /makes a NAR of \d+ bytes, Nix registered \d+/,
    })
  })

  it('gives no byte of a valid path that is not on disk', async (t) => {
    const { store, path } = await withLargeFile(t)
    await rename(store.physical(path), join(store.sources, 'gone'))
    await assert.rejects(bytesOf(store.open().readNar(path, undefined, options)), StorePathChangedError)
  })

  it('sees a path that was collected and made again with other names', async (t) => {
    const { store, path, file } = await withLargeFile(t)
    const local = store.open()
    await bytesOf(local.readNar(path, undefined, options))
    await rename(store.physical(path), join(store.sources, 'collected'))
    await mkdir(store.physical(path))
    await rename(join(store.sources, 'collected', 'contents'), file.replace(/contents$/, 'CONTENTS'))
    const nar = await bytesOf(local.readNar(path, undefined, options))
    assert.ok(nar.equals(store.dump(path)))
    assert.ok(nar.includes('CONTENTS'))
  })

  it('refuses a FIFO, and does not wait for it', async (t) => {
    const { store, path } = await withLargeFile(t)
    execFileSync('mkfifo', [join(store.physical(path), 'fifo')])
    await assert.rejects(bytesOf(store.open().readNar(path, undefined, options)), NarTreeError)
  })

  it('refuses 64 nested directories above a file, as the newest Nix would', async (t) => {
    const store = await realStore(t)
    const source = join(store.sources, 'deep')
    await mkdir(join(source, 'd/'.repeat(63)), { recursive: true })
    await writeFile(join(source, 'd/'.repeat(62), 'file'), 'x')
    const allowed = store.add(source)
    await writeFile(join(source, 'd/'.repeat(63), 'file'), 'x')
    const refused = store.add(source)
    const local = store.open()
    assert.ok((await bytesOf(local.readNar(allowed, undefined, options))).equals(store.dump(allowed)))
    await assert.rejects(bytesOf(local.readNar(refused, undefined, options)), NarTreeError)
  })
})

async function withLargeFile(t: TestContext): Promise<{ store: RealStore; path: StorePath; file: string }> {
  const store = await realStore(t)
  const source = join(store.sources, 'tree')
  await mkdir(source)
  await writeFile(join(source, 'contents'), randomBytes(3 * 2 ** 20))
  const path = store.add(source)
  const file = join(store.physical(path), 'contents')
  await chmod(store.physical(path), 0o755)
  await chmod(file, 0o644)
  return { store, path, file }
}
