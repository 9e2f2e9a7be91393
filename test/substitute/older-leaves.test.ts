import { openByRanges } from '../store/open-by-ranges.ts'
import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { describe, it, mock } from 'node:test'
import type { TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { zstdCompressSync } from 'node:zlib'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { createLeafCoder } from '../../src/http/leaf-coder.ts'
import { createWireCount } from '../../src/operations/wire-count.ts'
import { OLDER_LEAF_MS, OLDER_LEAVES_COUNT, OLDER_LEAVES_IN_VAIN_COUNT } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST } from '../../src/source.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import { StorePathChangedError } from '../../src/store/errors.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import type { GatewaySource } from '../../src/swarm/gateway-source.ts'
import { serve, testNar, testPeer } from '../http/kit.ts'
import { collect, leafOf, noise, options, pathIn, planOf, spoolBench, store } from '../spool/kit.ts'
import {
  engine,
  MIB,
  narInfoOf,
  olderLeavesOf,
  pathNamed,
  peer,
  blocksOf,
  stream,
  tells,
  testPolicy,
} from './kit.ts'

/** Of each name a NAR of its own; `indexed` are in the spool and in the index. */
async function bench(
  t: TestContext,
  nars: readonly { name: string; size: number }[],
  {
    indexed = nars.map(({ name }) => name),
    mayName = () => true,
    onRead = () => {},
  }: {
    indexed?: readonly string[]
    mayName?: (info: NarInfo) => boolean
    /** May change, refuse or wait before a read of the store. */
    onRead?: (start: number) => void | Promise<void>
  } = {},
) {
  const { spool, db, log, dir } = await spoolBench(t)
  const index = openLeafIndex(db)
  const reads: string[] = []
  const readNarInto: LocalStore['readNarInto'] = async (path, { start, end }, target) => {
    const { name, bytes } = built.find(({ info }) => info.storePath === path) ?? assert.fail()
    reads.push(`${name} ${start / MIB}`)
    await onRead(start)
    target.set(bytes.subarray(start, end))
    return { mark: 'as built', changedMs: 0 }
  }
  const blocks = createLocalBlocks({
    index,
    spool,
    log,
    store: { openNar: (...asked) => openByRanges({ readNarInto }, ...asked) },
  })
  const built = nars.map(({ name, size }, at) => {
    const bytes = noise(size, `${name} ${at}`)
    const plan = planOf(bytes)
    const info: NarInfo = {
      ...narInfoOf(plan, name),
      // As many as there are with one name.
      storePath: pathNamed(`${at}-${name}`).replace(`${at}-${name}`, name) as NarInfo['storePath'],
    }
    return { name, bytes, plan, info }
  })
  for (const { name, bytes, plan } of built) {
    if (!indexed.includes(name)) continue
    await store(spool, bytes)
    index.put(plan, { shared: false, inSpool: true })
  }
  const infos = built.map(({ info }) => info)
  const older = olderLeavesOf(infos, { index, blocks, mayName, readNarInto, log })
  /** Name and number of the leaf that is taken for one of the wanted NAR. */
  const leafFor = async (wanted: string, size: number, offset = 0): Promise<string | undefined> => {
    const { narHash } = planOf(noise(10, 'wanted'))
    const old = await older.of({ storePath: pathNamed(wanted), narHash, narSize: size })(offset, options)
    for (const { name, bytes } of built) {
      for (let leaf = 0; leaf * MIB < bytes.length; leaf++) {
        if (Buffer.compare(old?.digest ?? Buffer.alloc(0), sha256(leafOf(bytes, leaf))) === 0)
          return `${name} ${leaf}`
      }
    }
    assert.equal(old, undefined)
    return undefined
  }
  return { built, older, leafFor, reads, spoolDir: dir, log }
}

describe('the older leaf that a wanted one is told from', () => {
  const NEAREST: [
    title: string,
    names: readonly [string, number][],
    wanted: string,
    is: string | undefined,
  ][] = [
    [
      'the same name before a version',
      [
        ['curl-8.1', 5_000],
        ['curl-8.2', 9_000],
      ],
      'curl-8.2',
      'curl-8.2 0',
    ],
    [
      'another version',
      [
        ['curl-8.1', 5_000],
        ['openssl-3.0', 5_000],
      ],
      'curl-8.2',
      'curl-8.1 0',
    ],
    [
      'its own output',
      [
        ['curl-8.1-dev', 5_000],
        ['curl-8.1', 900],
      ],
      'curl-8.2',
      'curl-8.1 0',
    ],
    [
      'its own output, named',
      [
        ['curl-8.1', 5_000],
        ['curl-8.1-dev', 900],
      ],
      'curl-8.2-dev',
      'curl-8.1-dev 0',
    ],
    [
      'the size that is nearest',
      [
        ['a-1', 900],
        ['a-2', 5_000],
        ['a-3', 90_000],
      ],
      'a-4',
      'a-2 0',
    ],
    [
      'the newest of those that are alike',
      [
        ['a-3', 5_000],
        ['a-2', 5_000],
      ],
      'a-4',
      'a-3 0',
    ],
    ['none of another package', [['curl-full-8.1', 5_000]], 'curl-8.2', undefined],
  ]
  for (const [title, names, wanted, is] of NEAREST) {
    it(title, async (t) => {
      const { leafFor } = await bench(
        t,
        names.map(([name, size]) => ({ name, size })),
      )
      assert.equal(await leafFor(wanted, 5_000), is)
    })
  }

  it('is the one at the same place, and behind the end the last', async (t) => {
    const { leafFor } = await bench(t, [{ name: 'a-1', size: 2 * MIB + 5 }])
    for (const [offset, leaf] of [
      [0, 0],
      [MIB, 1],
      [2 * MIB, 2],
      [3 * MIB, 2],
      [900 * MIB, 2],
    ] as const) {
      assert.equal(await leafFor('a-2', 4 * MIB, offset), `a-1 ${leaf}`)
    }
  })

  it('is of a NAR in the store that nobody has indexed, as well', async (t) => {
    const nars = ['a-1', 'a-2'].map((name) => ({ name, size: 2 * MIB + 5 }))
    const { leafFor, reads } = await bench(t, nars, { indexed: ['a-1'] })
    assert.equal(await leafFor('a-2', 5_000), 'a-2 0')
    assert.equal(await leafFor('a-2', 5_000, 9 * MIB), 'a-2 2')
    assert.deepEqual(reads, ['a-2 0', 'a-2 2'])
  })

  it('is of a NAR that others may know of', async (t) => {
    const nars = ['a-1', 'a-2', 'a-3'].map((name) => ({ name, size: 5_000 }))
    const mayName = ({ storePath }: NarInfo) => storePath.endsWith('a-3')
    const some = await bench(t, nars, { mayName })
    assert.equal(await some.leafFor('a-1', 5_000), 'a-3 0')
    const none = await bench(t, nars, { mayName: () => false })
    assert.equal(await none.leafFor('a-1', 5_000), undefined)
  })

  it('gives its bytes; once they are gone no other leaf of that NAR is named', async (t) => {
    const { older, built, spoolDir } = await bench(t, [{ name: 'a-1', size: 2 * MIB }])
    const [{ bytes, plan } = assert.fail()] = built
    const at = older.of({ storePath: pathNamed('a-2'), narHash: planOf(noise(9)).narHash, narSize: 5 })
    const lent = await (await at(MIB, options))?.lend(options)
    assert.ok(lent && leafOf(bytes, 1).every((byte, i) => lent.bytes[i] === byte))
    lent?.release()
    await rm(pathIn(spoolDir, plan.narHash))
    assert.equal(await (await at(0, options))?.lend(options), undefined)
    assert.equal(await at(MIB, options), undefined)
  })
})

describe('the leaves of an older path that is not in the index', () => {
  const SIZE = 20 * MIB + 5
  const wanted = { storePath: pathNamed('a-2'), narHash: planOf(noise(9)).narHash, narSize: SIZE }
  /** Nothing but a tick lets any time pass. */
  const one = async (t: TestContext, onRead?: (start: number) => void | Promise<void>, size = SIZE) => {
    const made = await bench(t, [{ name: 'a-1', size }], { indexed: [], ...(onRead && { onRead }) })
    mock.timers.enable({ apis: ['setTimeout'] })
    t.after(() => mock.timers.reset())
    return made
  }
  const LEAVES_COUNT = 21

  it('are read and hashed once each, and again when one is used', async (t) => {
    const { older, built, reads } = await one(t)
    const [{ bytes } = assert.fail()] = built
    const at = older.of(wanted)
    for (let asked = 0; asked < 3; asked++) {
      for (const leaf of [0, 3]) {
        const old = (await at(leaf * MIB, options)) ?? assert.fail()
        assert.deepEqual(Buffer.from(old.digest), Buffer.from(sha256(leafOf(bytes, leaf))))
      }
    }
    assert.deepEqual(reads, ['a-1 0', 'a-1 3'])
    const lent = (await (await at(3 * MIB, options))?.lend(options)) ?? assert.fail()
    assert.equal(Buffer.compare(leafOf(bytes, 3), lent.bytes), 0)
    lent.release()
    assert.equal(reads.length, 3)
  })

  it('are not read at all where there is but one, whose hash is that of the NAR', async (t) => {
    const { older, built, reads } = await one(t, undefined, 5_000)
    const [{ bytes } = assert.fail()] = built
    const old = (await older.of(wanted)(0, options)) ?? assert.fail()
    assert.deepEqual(reads, [])
    assert.deepEqual(Buffer.from(old.digest), Buffer.from(sha256(bytes)))
    const lent = (await old.lend(options)) ?? assert.fail()
    assert.ok(bytes.equals(lent.bytes))
  })

  it(`are hashed no further after ${OLDER_LEAVES_IN_VAIN_COUNT} of which no difference came, and all of them otherwise`, async (t) => {
    const { older, reads } = await one(t)
    const at = older.of(wanted)
    const ask = async (to: number) => {
      for (let leaf = 0; leaf < to; leaf++) await at(leaf * MIB, options)
    }
    await ask(LEAVES_COUNT)
    assert.equal(reads.length, OLDER_LEAVES_IN_VAIN_COUNT)
    assert.equal(await at(20 * MIB, options), undefined)
    const lent = await (await at(0, options))?.lend(options)
    lent?.release()
    reads.length = 0
    await ask(LEAVES_COUNT)
    assert.equal(reads.length, LEAVES_COUNT - OLDER_LEAVES_IN_VAIN_COUNT)
  })

  it('are read a few at a time, over all NARs', async (t) => {
    let [reading, most] = [0, 0]
    const { older } = await one(t, async () => {
      most = Math.max(most, (reading += 1))
      await setImmediate()
      reading -= 1
    })
    const [first, second] = [older.of(wanted), older.of(wanted)]
    const asked = [0, 1, 2, 3, 4, 5].flatMap((leaf) =>
      [first, second].map(async (at) => at(leaf * MIB, options)),
    )
    for (const old of await Promise.all(asked)) assert.ok(old)
    assert.equal(most, OLDER_LEAVES_COUNT)
  })

  it('are named no more once the store cannot be read', async (t) => {
    const { older, reads } = await one(t, (start) => {
      if (start === MIB) throw new StorePathChangedError('another size')
    })
    const at = older.of(wanted)
    assert.ok(await at(0, options))
    assert.equal(await at(MIB, options), undefined)
    for (const leaf of [0, 1, 2]) assert.equal(await at(leaf * MIB, options), undefined)
    assert.deepEqual(reads, ['a-1 0', 'a-1 1'])
  })

  it('are named no more once one of them has changed since', async (t) => {
    const { older, built } = await one(t)
    const [{ bytes } = assert.fail()] = built
    const at = older.of(wanted)
    const old = await at(0, options)
    bytes[7]! ^= 1
    assert.equal(await old?.lend(options), undefined)
    assert.equal(await at(MIB, options), undefined)
  })

  it('hold up no request for longer than their limit when the disk hangs', async (t) => {
    const { older } = await one(t, () => new Promise(() => {}))
    const at = older.of(wanted)
    // More than are read at a time: those that wait for their turn give up as well.
    const asking = Promise.all([0, 1, 2, 3, 4, 5].map(async (leaf) => at(leaf * MIB, options)))
    mock.timers.tick(OLDER_LEAF_MS)
    const asked = await asking
    assert.deepEqual(new Set(asked), new Set([undefined]))
    assert.equal(await at(9 * MIB, options), undefined)
  })

  it('keep nobody who leaves', async (t) => {
    const { older } = await one(t, () => new Promise(() => {}))
    const leaving = new AbortController()
    const asked = older.of(wanted)(0, { signal: leaving.signal })
    leaving.abort(new Error('gone'))
    await assert.rejects(async () => asked, /gone/)
  })
})

const LEAVES = 6
const oldBytes = noise(LEAVES * MIB, 'old')
const newBytes = Buffer.concat([oldBytes, noise(1_000, 'end')])
// In each leaf but the third.
for (let leaf = 0; leaf < LEAVES; leaf++) {
  if (leaf !== 2) noise(32, `change ${leaf}`).copy(newBytes, leaf * MIB + 5_000)
}
const [oldNar, newNar] = [testNar(oldBytes), testNar(newBytes)]
const oldInfo = narInfoOf(oldNar.plan, 'program-1.0')
const newInfo = narInfoOf(newNar.plan, 'program-1.1')
const verified = testPolicy.verify(newInfo)

describe('an upgrade from a peer that has the older NAR, too', () => {
  /** One that has both, behind a socket. */
  async function publisher(t: TestContext) {
    const given = createWireCount()
    // Whose coder takes no time, however busy this machine is.
    const coder = createLeafCoder({ clock: () => 0 })
    const { app } = testPeer([oldNar, newNar], { given, coder })
    const { port } = await serve(t, app)
    return { given, source: gatewayAt(t, port) }
  }

  function gatewayAt(t: TestContext, port: number): GatewaySource {
    // Each look at the clock takes a second: no link is slower.
    let now = 0
    const source = createGatewaySource(
      { url: `http://127.0.0.1:${port}`, knowsDifferences: () => true },
      { clock: () => (now += 1_000) },
    )
    t.after(() => source.close())
    return source
  }

  async function upgrade(t: TestContext, peers: Parameters<typeof engine>[1]['peers']) {
    const upstream = stream('upstream:a', newBytes)
    const one = await engine(t, {
      sources: [
        tells('feed:f', COST.local, { info: newInfo, cid: newNar.plan.root }),
        tells('upstream:a', COST.upstream, { info: newInfo, stream: upstream }),
      ],
      peers: peers ?? [],
      older: [oldInfo],
    })
    await store(one.spool, oldBytes)
    one.index.put(oldNar.plan, { shared: false, inSpool: true })
    assert.ok(await one.resolver.byHashPart(hashPartOf(newInfo.storePath), options))
    const range = { start: 0, end: newBytes.length }
    const transfer = await one.transfers.open(verified, range, options)
    assert.ok((await collect(transfer.read(range, options))).equals(newBytes))
    await transfer.done
    return { ...one, upstream }
  }

  it('moves what differs, and nothing of what is the same', async (t) => {
    const { source, given } = await publisher(t)
    const one = await upgrade(t, [source])
    const score = one.scores.all().get(source.id) ?? assert.fail()
    // The last leaf is shorter than what is coded.
    const differences = (LEAVES - 1) * MIB
    assert.equal(score.byDifference.bytes, differences)
    assert.deepEqual(given.byDifference(), score.byDifference)
    assert.ok(score.byDifference.wireBytes < differences / 1_000, `${score.byDifference.wireBytes} bytes`)
    assert.equal(one.scores.all().get('local')?.bytes, MIB)
    assert.deepEqual(one.upstream.opened, [])
  })

  /** Answers with whatever `make` makes of the leaf, right header and all. */
  async function liar(t: TestContext, make: (leaf: Uint8Array, old: Uint8Array) => Uint8Array) {
    const blocks = new Map([...blocksOf(newBytes), ...blocksOf(oldBytes)])
    const server = createServer(({ url, headers }, response) => {
      const block = blocks.get(/^\/ipfs\/([a-z0-9]+)/.exec(url ?? '')?.[1] ?? '') ?? assert.fail()
      const type = { 'content-type': 'application/vnd.ipld.raw', vary: 'available-dictionary' }
      const digest = Buffer.from(String(headers['available-dictionary'] ?? '').slice(1, -1), 'base64')
      if (digest.length !== 32) {
        response.writeHead(200, type).end(block)
        return
      }
      const old = blocks.get(rawCid(digest).toString()) ?? assert.fail()
      response
        .writeHead(200, { ...type, 'content-encoding': 'dcz' })
        .end(Buffer.concat([Buffer.from('5e2a4d1820000000', 'hex'), digest, make(block, old)]))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => {
      server.closeAllConnections()
      server.close()
    })
    return gatewayAt(t, (server.address() as AddressInfo).port)
  }

  const LIES: [title: string, make: (leaf: Uint8Array, old: Uint8Array) => Uint8Array][] = [
    ['another leaf', (_, old) => zstdCompressSync(old, { dictionary: old })],
    ['a leaf coded with another dictionary', (leaf) => zstdCompressSync(leaf, { dictionary: leaf })],
    [
      'a leaf with something behind it',
      (leaf, old) => Buffer.concat([zstdCompressSync(leaf, { dictionary: old }), Buffer.from('x')]),
    ],
    ['a bomb', (_, old) => zstdCompressSync(Buffer.alloc(100 * MIB), { dictionary: old })],
  ]
  for (const [title, make] of LIES) {
    it(`takes from another what one sent as ${title}, and has no more to do with that one`, async (t) => {
      const bad = await liar(t, make)
      const one = await upgrade(t, [bad, peer('good', blocksOf(newBytes))])
      const score = one.scores.all().get(bad.id) ?? assert.fail()
      assert.ok(score.lies > 0)
      assert.equal(score.byDifference.bytes, 0)
      assert.equal(one.scores.usable(bad.id), false)
      assert.equal(one.scores.all().get('local')?.lies, 0)
    })
  }
})
