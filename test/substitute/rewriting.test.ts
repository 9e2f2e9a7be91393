import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import type { TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { rawCid } from '../../src/dag/cid.ts'
import {
  REWRITE_FAILED_MAX_AGE_MS,
  REWRITE_LEAF_MISSES_COUNT,
  REWRITE_LEAVES_APART_COUNT,
  REWRITE_PROOFS_COUNT,
  REWRITE_QUIET_MS,
  REWRITE_STREAMS_COUNT,
} from '../../src/limits.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError, SourceMissError } from '../../src/source.ts'
import { StorePathChangedError, StorePathNotValidError } from '../../src/store/errors.ts'
import { findWays, wayId } from '../../src/substitute/ways.ts'
import { createRewriting } from '../../src/substitute/rewriting.ts'
import type { Rewriting } from '../../src/substitute/rewriting.ts'
import { recordingLog } from '../kit/log.ts'
import { collect, leafOf, options, planOf } from '../spool/kit.ts'
import { blocksOf, engine, flipped, MIB, pathNamed, peer, stream, tells, testPolicy } from './kit.ts'
import { asOld, built, oldStore, SIZE, twin } from './old-store.ts'
import type { Built, OldPath } from './old-store.ts'

const [zlibOld, zlibNew, glibc] = [twin('zlib-1.2', 'old'), twin('zlib-1.2', 'new'), pathNamed('glibc-2.40')]
const older = built(twin('program-1.0', 'old'), [zlibOld, glibc])
const newer = built(twin('program-1.0', 'new'), [zlibNew, glibc])
const verified = testPolicy.verify(newer.info)

function rewritingOf(store: ReturnType<typeof oldStore>, clock = () => 0): Rewriting {
  return createRewriting({ store, names: store, clock, log: recordingLog() })
}

async function proved(rewriting: Rewriting, { info }: Built, from = 0): Promise<Buffer | undefined> {
  const source = await rewriting.guess(info)?.prove(options)
  return source && collect(source.open(info, from, options))
}

describe('a NAR made of an older path', () => {
  it('is given from any byte on, once it has proved right', async () => {
    const store = oldStore()
    store.add(asOld(older))
    for (const from of [0, 1, MIB - 10, MIB, 3 * MIB + 5, SIZE - 1]) {
      assert.ok(
        (await proved(rewritingOf(store), newer, from))?.equals(newer.bytes.subarray(from)),
        `${from}`,
      )
    }
  })

  it('is given where a library has another version, as long as its name is as long', async () => {
    const store = oldStore()
    const [old, latest] = [twin('openssl-3.0.20', 'old'), twin('openssl-3.0.22', 'new')]
    store.add(asOld(built(twin('curl-8.0', 'old'), [old, glibc])))
    const wanted = built(twin('curl-8.0', 'new'), [latest, glibc])
    assert.ok((await proved(rewritingOf(store), wanted))?.equals(wanted.bytes))
  })

  it('is hashed once for two who ask one after the other', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const rewriting = rewritingOf(store)
    const guess = rewriting.guess(newer.info)
    await guess?.prove(options)
    const { length } = store.reads
    assert.ok(await rewriting.guess(newer.info)?.prove(options))
    assert.equal(store.reads.length, length)
  })

  it('is not guessed when nothing here has its name and size', async () => {
    const store = oldStore()
    store.add({ ...asOld(older), storePath: twin('program-1.1', 'old') })
    store.add({ ...asOld(older), bytes: older.bytes.subarray(1) })
    assert.equal(rewritingOf(store).guess(newer.info), undefined)
  })

  it('is nothing when the old path differs, which is not tried again for an hour', async () => {
    const store = oldStore()
    store.add(asOld(older)).bytes[4 * MIB + 1]! ^= 1
    let now = 1
    const rewriting = rewritingOf(store, () => now)
    assert.equal(await proved(rewriting, newer), undefined)
    const { length } = store.reads
    assert.ok(length > 0)
    assert.equal(await proved(rewriting, newer), undefined)
    assert.equal(store.reads.length, length)
    now += REWRITE_FAILED_MAX_AGE_MS + 1
    assert.equal(await proved(rewriting, newer), undefined)
    assert.equal(store.reads.length, 2 * length)
  })

  it('is made of the next path when the first one gives another NAR', async () => {
    const store = oldStore()
    store.add({ ...asOld(older), storePath: twin('program-1.0', 'damaged') }).bytes[7]! ^= 1
    store.add(asOld(older))
    assert.ok((await proved(rewritingOf(store), newer))?.equals(newer.bytes))
  })

  it('is not hashed where a reference has no pair: then it cannot be right', async () => {
    const store = oldStore()
    store.add({ ...asOld(older), references: [older.info.storePath, zlibOld, glibc, pathNamed('extra-1')] })
    assert.equal(await proved(rewritingOf(store), newer), undefined)
    assert.deepEqual(store.reads, [])
  })

  it('is found among the orders of references of one name, and the next path is right at once', async () => {
    const olds = ['old 1', 'old 2'].map((which) => twin('glibc-2.40', which)).toSorted()
    const news = ['new 1', 'new 2'].map((which) => twin('glibc-2.40', which)).toSorted()
    // The first has become the second one.
    const pairs = [olds, news.toReversed()]
    const build = (name: string, at: number): Built => {
      const references = pairs[at] ?? []
      const { info, bytes } = built(twin(name, String(at)), references, name)
      return { info: { ...info, references: [info.storePath, ...references].toSorted() }, bytes }
    }
    const [before, after] = [build('ambiguous-1', 0), build('ambiguous-1', 1)]
    const [other, next] = [build('dependent-1', 0), build('dependent-1', 1)]
    const store = oldStore()
    store.add(asOld(before))
    store.add(asOld(other))
    const rewriting = rewritingOf(store)
    assert.ok((await proved(rewriting, after))?.equals(after.bytes))
    const chunks = Math.ceil(SIZE / MIB)
    assert.equal(store.reads.length, 3 * chunks, 'hashed twice, read once more')
    store.reads.length = 0
    const source = await rewriting.guess(next.info)?.prove(options)
    assert.ok(source)
    assert.equal(store.reads.length, chunks)
  })

  it('breaks off before the first chunk whose files changed after they were hashed', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const rewriting = rewritingOf(store)
    const source = await rewriting.guess(newer.info)?.prove(options)
    store.onRead = (path, start) => {
      if (start < 3 * MIB) return
      path.mark = 'changed'
      path.bytes.fill(0, 3 * MIB)
    }
    const came: Uint8Array[] = []
    await assert.rejects(async () => {
      for await (const bytes of source?.open(newer.info, 0, options) ?? []) came.push(Buffer.from(bytes))
    }, SourceFaultError)
    const bytes = Buffer.concat(came)
    assert.ok(bytes.length > 2 * MIB && bytes.length <= 3 * MIB)
    assert.ok(bytes.equals(newer.bytes.subarray(0, bytes.length)))
    store.reads.length = 0
    assert.equal(await proved(rewriting, newer), undefined)
    assert.deepEqual(store.reads, [], 'not tried again')
  })

  it('that is left in the middle keeps nobody waiting', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const source = await rewritingOf(store).guess(newer.info)?.prove(options)
    assert.ok(source)
    for (let count = 0; count < 2 * REWRITE_STREAMS_COUNT; count += 1) {
      for await (const _ of source.open(newer.info, 0, options)) break
    }
    assert.ok((await collect(source.open(newer.info, 0, options))).equals(newer.bytes))
  })

  const faults: [title: string, error: Error][] = [
    ['collected while it is hashed', new StorePathNotValidError(older.info.storePath)],
    ['other than its database says', new StorePathChangedError('it makes a NAR of another size')],
    ['unreadable', new Error('EIO')],
  ]
  for (const [title, error] of faults) {
    it(`is nothing when the old path is ${title}`, async () => {
      const store = oldStore()
      store.add(asOld(older))
      store.onRead = (_, start) => {
        if (start >= MIB) throw error
      }
      assert.equal(await proved(rewritingOf(store), newer), undefined)
    })
  }

  it('is tried again when who asked for it went away', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const rewriting = rewritingOf(store)
    const leaving = new AbortController()
    store.onRead = (_, start) => {
      if (start >= MIB) leaving.abort(new Error('gone'))
    }
    await assert.rejects(async () => rewriting.guess(newer.info)?.prove({ signal: leaving.signal }), /gone/)
    store.onRead = () => {}
    assert.ok((await proved(rewriting, newer))?.equals(newer.bytes))
  })

  it('is not waited for by who leaves while a read hangs', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const leaving = new AbortController()
    store.onRead = () => {
      leaving.abort(new Error('gone'))
      return new Promise(() => {})
    }
    await assert.rejects(
      async () => rewritingOf(store).guess(newer.info)?.prove({ signal: leaving.signal }),
      /gone/,
    )
  })

  it('is no guess when the database cannot be read', () => {
    const store = oldStore()
    const broken = { ...store, sameName: () => assert.fail('database is locked') }
    assert.equal(rewritingOf(broken).guess(newer.info), undefined)
  })
})

describe('a leaf made of an older path', () => {
  const cidOf = (leaf: number) => rawCid(planOf(newer.bytes).leaves.subarray(leaf * 32, leaf * 32 + 32))
  const ask = (rewriting: Rewriting, leaf: number, offset: number | undefined = leaf * MIB) => {
    const source = rewriting.guess(newer.info)?.leaves ?? assert.fail('no guess')
    return source.fetch(
      { cid: cidOf(leaf), maxBytes: MIB, ...(offset === undefined ? {} : { offset }) },
      options,
    )
  }

  it('is given when it is right, the last and shorter one too', async () => {
    const store = oldStore()
    store.add(asOld(older)).bytes[2 * MIB + 500]! ^= 1
    const rewriting = rewritingOf(store)
    for (const leaf of [0, 1, 3, 4, 5]) {
      assert.deepEqual(Buffer.from(await ask(rewriting, leaf)), Buffer.from(leafOf(newer.bytes, leaf)))
    }
    await assert.rejects(ask(rewriting, 2), SourceMissError)
  })

  it('is a miss for an interior node, which has no place', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const source = rewritingOf(store).guess(newer.info)?.leaves ?? assert.fail('no guess')
    await assert.rejects(source.fetch({ cid: cidOf(0), maxBytes: MIB }, options), SourceMissError)
    assert.deepEqual(store.reads, [])
  })

  it('is a miss when the old path is gone', async () => {
    const store = oldStore()
    store.add(asOld(older))
    store.onRead = () => {
      throw new StorePathNotValidError(older.info.storePath)
    }
    await assert.rejects(ask(rewritingOf(store), 0), SourceMissError)
  })

  it('is tried seldom after several that were wrong, and always again after one that was right', async () => {
    const store = oldStore()
    store.add(asOld(older)).bytes[5]! ^= 1
    const source = rewritingOf(store).guess(newer.info)?.leaves ?? assert.fail('no guess')
    const asked = async (leaf: number): Promise<boolean> => {
      const before = store.reads.length
      const block = { cid: cidOf(leaf), maxBytes: MIB, offset: leaf * MIB }
      await source
        .fetch(block, options)
        .catch((error: unknown) => assert.ok(error instanceof SourceMissError))
      return store.reads.length > before
    }
    for (let count = 0; count < REWRITE_LEAF_MISSES_COUNT; count += 1) assert.equal(await asked(0), true)
    for (let count = 1; count < REWRITE_LEAVES_APART_COUNT; count += 1) assert.equal(await asked(1), false)
    assert.equal(await asked(1), true)
    assert.equal(await asked(2), true)
  })
})

describe('a transfer where an older path is here', () => {
  async function node(t: TestContext, store: ReturnType<typeof oldStore>, withRoot = false) {
    const upstream = stream('upstream', newer.bytes)
    const others = peer('peer', blocksOf(newer.bytes))
    const { root } = planOf(newer.bytes)
    const told = tells('upstream', COST.upstream, { info: newer.info, stream: upstream })
    const feed = tells('feed', COST.local, { info: newer.info, cid: root })
    const one = await engine(t, {
      sources: withRoot ? [feed, told] : [told],
      peers: withRoot ? [others] : [],
      rewriting: rewritingOf(store),
    })
    assert.ok(await one.resolver.byHashPart(hashPartOf(newer.info.storePath), options))
    return { ...one, upstream, others }
  }
  const read = async (one: Awaited<ReturnType<typeof node>>, from = 0): Promise<Buffer> => {
    const range = { start: from, end: SIZE }
    const transfer = await one.transfers.open(verified, range, options)
    const bytes = await collect(transfer.read(range, options))
    await transfer.done
    return bytes
  }

  it('asks nobody for a byte', async (t) => {
    const store = oldStore()
    store.add(asOld(older))
    const one = await node(t, store)
    assert.ok((await read(one)).equals(newer.bytes))
    assert.deepEqual(one.upstream.opened, [])
    assert.ok(one.log.lines.some(({ message }) => message === `NAR verified: ${SIZE} bytes from rewritten`))
  })

  it('asks no peer either, though a root was told', async (t) => {
    const store = oldStore()
    store.add(asOld(older))
    const one = await node(t, store, true)
    assert.ok((await read(one, 2 * MIB)).equals(newer.bytes.subarray(2 * MIB)))
    assert.deepEqual([one.upstream.opened, one.others.asked], [[], []])
  })

  it('takes it from upstream when the guess was wrong', async (t) => {
    const store = oldStore()
    store.add(asOld(older)).bytes[SIZE - 1]! ^= 1
    const one = await node(t, store)
    assert.ok((await read(one)).equals(newer.bytes))
    assert.deepEqual(one.upstream.opened, [0])
  })

  const ends: [title: string, end: (path: OldPath) => void | Promise<void>][] = [
    ['hangs', () => new Promise(() => {})],
    [
      'changed',
      (path) => {
        path.mark = 'changed'
        path.bytes.fill(0)
      },
    ],
    [
      'was collected',
      ({ storePath }) => {
        throw new StorePathNotValidError(storePath)
      },
    ],
  ]
  for (const [title, end] of ends) {
    it(`goes on from upstream where the old path ${title} under it`, { timeout: 20_000 }, async (t) => {
      const store = oldStore()
      store.add(asOld(older))
      const one = await node(t, store)
      store.onRead = (path, start) => {
        // The second time that it is read.
        if (start < 3 * MIB || store.reads.filter((name) => name.endsWith(` ${start}`)).length === 1) return
        return end(path)
      }
      assert.ok((await read(one)).equals(newer.bytes))
      const [from = 0] = one.upstream.opened
      assert.ok(from > 2 * MIB && from <= 3 * MIB, `taken over at ${from}`)
      assert.equal(one.upstream.opened.length, 1)
    })
  }

  it('asks peers only for the leaves that differ, and for the node above them', async (t) => {
    const store = oldStore()
    store.add(asOld(older)).bytes[3 * MIB + 9]! ^= 1
    const one = await node(t, store, true)
    assert.ok((await read(one)).equals(newer.bytes))
    const plan = planOf(newer.bytes)
    const differing = rawCid(plan.leaves.subarray(3 * 32, 4 * 32)).toString()
    assert.deepEqual(one.others.asked, [plan.root.toString(), differing])
    assert.deepEqual(one.upstream.opened, [])
  })
})

describe('the ways to a NAR whose older path', () => {
  /** Nothing but what is ticked lets any time pass. */
  async function finding(t: TestContext, store: ReturnType<typeof oldStore>) {
    const upstream = stream('upstream', newer.bytes)
    const told = tells('upstream', COST.upstream, { info: newer.info, stream: upstream })
    const { resolver, scores } = await engine(t, { sources: [told] })
    assert.ok(await resolver.byHashPart(hashPartOf(newer.info.storePath), options))
    mock.timers.enable({ apis: ['setTimeout'] })
    t.after(() => mock.timers.reset())
    const rewriting = rewritingOf(store)
    return (info: Built['info'] = newer.info) => {
      const guess = rewriting.guess(info)
      assert.ok(guess)
      const deps = { resolver, scores, blockSources: [], guess }
      const ways = findWays(testPolicy.verify(info), deps, options)
      const next = async (): Promise<string | undefined> => {
        const way = (await ways.next()).value
        return way ? wayId(way) : undefined
      }
      return { next, guess }
    }
  }
  /** All that can happen without a tick has happened. */
  const settled = async (): Promise<void> => {
    for (let turn = 0; turn < 50; turn++) await setImmediate()
  }
  const pass = async (ms: number): Promise<void> => {
    mock.timers.tick(ms)
    await settled()
  }
  /** Reads that go on when they are let. */
  function held(store: ReturnType<typeof oldStore>) {
    const waiting: (() => void)[] = []
    store.onRead = () => new Promise((resolve) => void waiting.push(resolve))
    return {
      waiting,
      letOne: () => waiting.shift()?.(),
      letAll() {
        store.onRead = () => {}
        for (const go of waiting.splice(0)) go()
      },
    }
  }

  for (const read of [0, 1, 3]) {
    it(`hangs after ${read} reads begin with the network ${REWRITE_QUIET_MS} ms later, and end with it when it comes back`, async (t) => {
      const store = oldStore()
      store.add(asOld(older))
      const disk = held(store)
      const { next } = (await finding(t, store))()
      let first: string | undefined
      const coming = next().then((way) => (first = way))
      await settled()
      for (let count = 0; count < read; count++) {
        await pass(REWRITE_QUIET_MS - 1)
        disk.letOne()
        await settled()
      }
      await pass(REWRITE_QUIET_MS - 1)
      assert.equal(first, undefined)
      await pass(1)
      assert.equal(first, 'upstream')
      await coming
      disk.letAll()
      assert.deepEqual([await next(), await next()], ['rewritten', undefined])
    })
  }

  it('is slow and goes on is waited for', async (t) => {
    const store = oldStore()
    store.add(asOld(older))
    const disk = held(store)
    const { next } = (await finding(t, store))()
    const first = next()
    await settled()
    for (let count = 0; disk.waiting.length > 0; count++) {
      assert.ok(count < 20)
      await pass(REWRITE_QUIET_MS - 1)
      disk.letOne()
      await settled()
    }
    assert.equal(await first, 'rewritten')
  })

  const others = Array.from({ length: REWRITE_PROOFS_COUNT }, (_, at) => ({
    old: built(twin(`other${at}-1.0`, 'old'), [zlibOld, glibc]),
    new: built(twin(`other${at}-1.0`, 'new'), [zlibNew, glibc]),
  }))

  it('waits for its turn behind some that hang begin with the network as well; behind some that go on they wait', async (t) => {
    const store = oldStore()
    store.add(asOld(older))
    for (const other of others) store.add(asOld(other.old))
    const disk = held(store)
    const find = await finding(t, store)
    for (const other of others)
      find(other.new.info)
        .guess.prove(options)
        .catch(() => {})
    await settled()
    const { next } = find()
    let first: string | undefined
    const coming = next().then((way) => (first = way))
    await settled()
    for (let count = 0; count < 3; count++) {
      await pass(REWRITE_QUIET_MS - 1)
      assert.equal(first, undefined)
      disk.letOne()
      await settled()
    }
    await pass(REWRITE_QUIET_MS)
    assert.equal(first, 'upstream')
    await coming
    disk.letAll()
    await settled()
  })

  const FAULTS: [title: string, spoil: (store: ReturnType<typeof oldStore>) => void][] = [
    [
      'was collected while it is read',
      (store) => {
        store.onRead = ({ storePath }, start) => {
          if (start >= MIB) throw new StorePathNotValidError(storePath)
        }
      },
    ],
    [
      'is not what its database says',
      (store) => {
        store.onRead = () => {
          throw new StorePathChangedError('it makes a NAR of another size')
        }
      },
    ],
    [
      'has changed on disk',
      (store) => void store.add({ ...asOld(older), bytes: Buffer.from(flipped(older.bytes)) }),
    ],
  ]
  for (const [title, spoil] of FAULTS) {
    it(`${title} begin with the network as soon as that is found out`, async (t) => {
      const store = oldStore()
      store.add(asOld(older))
      spoil(store)
      const { next } = (await finding(t, store))()
      // No time passes.
      assert.deepEqual([await next(), await next()], ['upstream', undefined])
    })
  }
})
