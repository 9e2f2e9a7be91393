import assert from 'node:assert/strict'
import { open, rm, truncate } from 'node:fs/promises'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { NarHashMismatchError, NoSourceError } from '../../src/substitute/errors.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { collect, noise, options, pathIn, planOf, store as spooled } from '../spool/kit.ts'
import { openSpool } from '../../src/spool/spool.ts'
import type { Spool } from '../../src/spool/spool.ts'
import { engine, flipped, MIB, narInfoOf, stream, tells, testPolicy, until } from './kit.ts'
import type { Engine, TestStream } from './kit.ts'
import { openByRanges } from '../store/open-by-ranges.ts'

const nar = noise(3 * MIB + 777)
const plan = planOf(nar)
const info = narInfoOf(plan)
const verified = testPolicy.verify(info)

/** A store whose database says what `info` says, and whose files are `files.bytes`. */
function storeOf(told: NarInfo, files: { bytes: Uint8Array; reads: number }): LocalStore {
  const { storePath, narHash, narSize, references, signatures } = told
  const path = { storePath, narHash, narSize, references, signatures, ultimate: false, registeredAt: 0 }
  return {
    storeDir: STORE_DIR,
    pathInfo: (hashPart) => (hashPart === hashPartOf(told.storePath) ? path : undefined),
    closure: () => [path],
    registered: { byId: () => undefined, after: () => ({ paths: [], lastId: 0 }), changeMark: () => '' },
    async *readNar(_, range = { start: 0, end: files.bytes.length }) {
      files.reads += 1
      for (let at = range.start; at < range.end; at += MIB) {
        yield files.bytes.subarray(at, Math.min(range.end, at + MIB))
      }
    },
    async readNarInto(_, { start, end }, target) {
      files.reads += 1
      const bytes = files.bytes.subarray(start, end)
      if (bytes.length < target.length) throw new Error('the file has become shorter')
      target.set(bytes)
      return { mark: `read ${files.reads}`, changedMs: 0 }
    },
    openNar(...asked) {
      return openByRanges(this, ...asked)
    },
    close() {},
  }
}

async function node(
  t: Parameters<typeof engine>[0],
  upstream?: TestStream,
  store?: LocalStore,
): Promise<Engine> {
  const sources =
    upstream === undefined ? [] : [tells(upstream.id, upstream.cost, { info, stream: upstream })]
  return engine(t, { sources, ...(store === undefined ? {} : { store }) })
}

async function read(engine: Engine, range = { start: 0, end: nar.length }): Promise<Buffer> {
  const transfer = await engine.transfers.open(verified, range, options)
  const bytes = await collect(transfer.read(range, options))
  await until(() => engine.transfers.running() === 0)
  return bytes
}

describe('a NAR that is here', () => {
  it('in the spool is served without anybody else', async (t) => {
    const upstream = stream('upstream', nar)
    const one = await node(t, upstream)
    await spooled(one.spool, nar)
    assert.deepEqual(await read(one), nar)
    assert.deepEqual(upstream.opened, [])
    assert.equal(one.index.nar(info.narHash), undefined, 'as it was left: nobody has to hash it')
    assert.equal(one.transfers.running(), 0)
  })
  it('in the spool since before this process began is hashed, indexed and served', async (t) => {
    const upstream = stream('upstream', nar)
    const one = await node(t, upstream)
    await spooled(await anotherSpool(one), nar)
    assert.deepEqual(await read(one), nar)
    assert.deepEqual(upstream.opened, [])
    assert.deepEqual(one.index.nar(info.narHash)?.root, plan.root)
  })
  it('in the store is served out of its files, never copied', async (t) => {
    const one = await node(t, undefined, storeOf(info, { bytes: nar, reads: 0 }))
    assert.deepEqual(await read(one), nar)
    assert.deepEqual(one.spool.totals(), { count: 0, bytes: 0 })
    assert.deepEqual(one.index.nar(info.narHash)?.storePaths, [info.storePath])
  })
  it('in the store is hashed once for 32 who ask together', async (t) => {
    const files = { bytes: nar, reads: 0 }
    const one = await node(t, undefined, storeOf(info, files))
    const opened = await Promise.all(
      Array.from({ length: 32 }, () => one.transfers.open(verified, undefined, options)),
    )
    assert.equal(opened.length, 32)
    assert.equal(files.reads, 1)
    for (const each of opened)
      assert.deepEqual(await collect(each.read({ start: 0, end: 9 }, options)), nar.subarray(0, 9))
  })
  it('is served at any range, equal to the slice', async (t) => {
    const one = await node(t)
    await spooled(one.spool, nar)
    await fc.assert(
      fc.asyncProperty(fc.nat(nar.length), fc.nat(nar.length), async (a, b) => {
        const range = { start: Math.min(a, b), end: Math.max(a, b) }
        assert.ok((await read(one, range)).equals(nar.subarray(range.start, range.end)))
      }),
      {
        numRuns: 40,
        examples: [
          [0, 0],
          [0, 1],
          [MIB, MIB + 1],
          [MIB - 1, MIB + 1],
          [nar.length - 1, nar.length],
          [0, nar.length],
        ],
      },
    )
  })
  it('comes in few buffers to a reader who is done with a chunk when it asks for the next but one', async (t) => {
    const one = await node(t)
    await spooled(one.spool, nar)
    const whole = { start: 0, end: nar.length }
    const transfer = await one.transfers.open(verified, whole, options)
    const chunks = transfer.read(whole, { ...options, reuse: true })[Symbol.asyncIterator]()
    const buffers = new Set<ArrayBufferLike>()
    const copies: Uint8Array[] = []
    let held: Uint8Array | undefined
    for (;;) {
      const next = await chunks.next()
      // As late as the reader may look at it.
      if (held !== undefined) copies.push(Uint8Array.from(held))
      if (next.done === true) break
      held = next.value
      buffers.add(held.buffer)
    }
    assert.deepEqual(Buffer.concat(copies), nar)
    assert.ok(buffers.size < copies.length, `${buffers.size} buffers for ${copies.length} chunks`)
  })
})

describe('a NAR that was here', () => {
  const rot: Record<string, (path: string) => Promise<void>> = {
    'with a bit flipped in its first leaf': (path) => overwrite(path, 5),
    'with a bit flipped in its third leaf': (path) => overwrite(path, 2 * MIB + 5),
    'cut short': (path) => truncate(path, nar.length - 1),
    'removed under us': (path) => rm(path),
  }
  for (const [title, spoil] of Object.entries(rot)) {
    it(`${title}, in the file that we left: is had from the upstream, right`, async (t) => {
      const upstream = stream('upstream', nar)
      const one = await node(t, upstream)
      await spooled(one.spool, nar)
      await spoil(pathIn(one.dir, info.narHash))
      assert.deepEqual(await read(one), nar)
      assert.equal(upstream.opened.length, 1)
      assert.deepEqual(await read(one), nar)
      assert.equal(upstream.opened.length, 1)
    })
    for (const indexed of [true, false]) {
      it(`${title}, ${indexed ? 'indexed' : 'not indexed'}: is had from the upstream, right`, async (t) => {
        const upstream = stream('upstream', nar)
        const one = await node(t, upstream)
        await spooled(await anotherSpool(one), nar)
        if (indexed) assert.deepEqual(await read(one), nar)
        await spoil(pathIn(one.dir, info.narHash))
        assert.deepEqual(await read(one), nar)
        assert.ok(
          one.log.lines.some(({ message }) => message.startsWith('a NAR that was here is not served')),
        )
        assert.equal(upstream.opened.length, 1)
        assert.deepEqual(await read(one), nar)
        assert.equal(upstream.opened.length, 1)
      })
    }
  }
  it('and whose first bytes are not there any more tells who gave it instead', async (t) => {
    const upstream = stream('upstream', nar)
    const one = await node(t, upstream)
    await spooled(one.spool, nar)
    const transfer = await one.transfers.open(verified, undefined, options)
    assert.equal(transfer.from, 'spool')
    await truncate(pathIn(one.dir, info.narHash), 0)
    const chunks = transfer.read({ start: 0, end: nar.length }, options)[Symbol.asyncIterator]()
    assert.equal((await chunks.next()).done, false)
    assert.equal(transfer.from, 'upstream')
    await chunks.return?.()
  })
  it('and rots in mid-response is ended by the upstream, at the byte where the disk stopped', async (t) => {
    const upstream = stream('upstream', nar)
    const one = await node(t, upstream)
    await spooled(one.spool, nar)
    const range = { start: 100, end: nar.length }
    const transfer = await one.transfers.open(verified, range, options)
    await overwrite(pathIn(one.dir, info.narHash), 2 * MIB + 5)
    assert.deepEqual(await collect(transfer.read(range, options)), nar.subarray(100))
    await until(() => one.transfers.running() === 0)
    assert.deepEqual(upstream.opened, [0])
  })
  it('and nobody else has it: the response breaks off', async (t) => {
    const one = await node(t)
    await spooled(one.spool, nar)
    await read(one)
    await overwrite(pathIn(one.dir, info.narHash), 5)
    await assert.rejects(read(one), NoSourceError)
  })
  it('in a store path that is not what its database says: is had from the upstream', async (t) => {
    const upstream = stream('upstream', nar)
    const one = await node(t, upstream, storeOf(info, { bytes: flipped(nar), reads: 0 }))
    assert.deepEqual(await read(one), nar)
    assert.deepEqual(upstream.opened, [0])
  })
  it('in a store path that changes under us: is had from the upstream', async (t) => {
    const upstream = stream('upstream', nar)
    const files = { bytes: nar as Uint8Array, reads: 0 }
    const one = await node(t, upstream, storeOf(info, files))
    assert.deepEqual(await read(one), nar)
    files.bytes = flipped(nar)
    assert.deepEqual(await read(one), nar)
    assert.equal(upstream.opened.length, 1)
  })
})

describe('a NAR whose wrong bytes went out', () => {
  it('is given from its beginning only, for a while: Nix would put the right end behind the wrong beginning', async (t) => {
    const wrong = Buffer.from(nar)
    wrong[MIB] = (wrong[MIB] ?? 0) ^ 1
    let bytes: Uint8Array = wrong
    const upstream: TestStream = {
      ...stream('upstream', nar),
      open: (ref, from, inner) => stream('upstream', bytes).open(ref, from, inner),
    }
    const one = await node(t, upstream)
    await assert.rejects(read(one), NarHashMismatchError)
    bytes = nar
    one.scores.delivered('upstream', 1, 1)
    await assert.rejects(read(one, { start: 2 * MIB, end: nar.length }), NoSourceError)
    await until(() => one.transfers.running() === 0)
    assert.deepEqual(await read(one), nar)
  })
})

describe('a NAR that nobody has', () => {
  it('is a NoSourceError at once', async (t) => {
    await assert.rejects(read(await node(t)), (error) => {
      assert.ok(error instanceof NoSourceError)
      assert.match(error.message, /none is known/)
      return true
    })
  })
  it('is asked for again when somebody asks again', async (t) => {
    const source = tells('late', 40, async () =>
      source.asked > 1 ? { info, stream: stream('late', nar) } : undefined,
    )
    const one = await engine(t, { sources: [source] })
    await assert.rejects(read(one), NoSourceError)
    assert.deepEqual(await read(one), nar)
  })
})

/** As another process: what it left is no proof here. */
function anotherSpool({ db, dir, log }: Engine): Promise<Spool> {
  return openSpool({ db, dir, log })
}

async function overwrite(path: string, at: number): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(flipped(nar.subarray(at, at + 1)), 0, 1, at)
  await file.close()
}
