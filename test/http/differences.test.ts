import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { createLeafCoder } from '../../src/http/leaf-coder.ts'
import { createWireCount } from '../../src/operations/wire-count.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import type { OldBlock } from '../../src/source.ts'
import type { LocalBlocks } from '../../src/spool/local-blocks.ts'
import { serve, testBlocks, testNar, testPeer } from './kit.ts'
import type { TestNar } from './kit.ts'

const ORIGIN = 'http://10.0.0.7:6278'

/** Noise, so that only an older leaf makes it smaller. */
const noise = (seed: string, size = LEAF_BYTES): Buffer =>
  createHash('shake256', { outputLength: size }).update(seed).digest()
/** With a few bytes changed here and there, as by another store path. */
function edited(bytes: Uint8Array, places: readonly number[] = [1_000, 300_000, 900_001]): Buffer {
  const copy = Buffer.from(bytes)
  for (const at of places) copy.write('7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq', at, 'latin1')
  return copy
}

const older = testNar(noise('older'))
const newer = testNar(edited(older.bytes))
/** Half as large by itself. */
const words = testNar(Buffer.from(noise('words', LEAF_BYTES / 2).toString('hex')))
const secret = testNar(edited(older.bytes, [5_000]))
const cidOf = ({ bytes }: TestNar): string => rawCid(sha256(bytes)).toString()
const named = (bytes: Uint8Array): string => `:${Buffer.from(sha256(bytes)).toString('base64')}:`
const asking = (dictionary: string): Record<string, string> => ({
  'Accept-Encoding': 'dcz, zstd',
  'Available-Dictionary': dictionary,
})
const targetOf = (nar: TestNar): string => `/ipfs/${cidOf(nar)}?format=raw`

/** @param hidden here, and not for others */
function codingPeer(nars: readonly TestNar[], hidden: readonly TestNar[] = []) {
  const shared = testBlocks(nars)
  const all = testBlocks(hidden)
  const lent: string[] = []
  /** The index knows them, and their files are gone. */
  const gone = new Set<string>()
  const blocks: LocalBlocks = {
    ...shared,
    lend(cid, scope, options) {
      lent.push(cid.toString())
      if (gone.has(cid.toString())) return Promise.resolve(undefined)
      return shared.size(cid, scope) === undefined && scope === 'all'
        ? all.lend(cid, scope, options)
        : shared.lend(cid, scope, options)
    },
    size: (cid, scope) => shared.size(cid, scope) ?? (scope === 'all' ? all.size(cid, scope) : undefined),
  }
  const given = createWireCount()
  const { app } = testPeer(nars, { blocks, given })
  const ask = async (nar: TestNar, headers: Record<string, string>, method = 'GET') => {
    const response = await app.request(ORIGIN + targetOf(nar), { method, headers })
    return { response, body: Buffer.from(await response.arrayBuffer()) }
  }
  return { app, ask, given, lent, gone }
}

test('who names an older leaf gets the difference from it', async () => {
  const { ask, given } = codingPeer([older, newer])
  const { response, body } = await ask(newer, asking(named(older.bytes)))
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-encoding'), 'dcz')
  assert.equal(response.headers.get('content-type'), 'application/vnd.ipld.raw')
  assert.equal(response.headers.get('content-length'), String(body.length))
  assert.equal(response.headers.get('etag'), `"${cidOf(newer)}.raw.dcz.${cidOf(older)}"`)
  assert.equal(response.headers.get('vary'), 'Accept, Accept-Encoding, Available-Dictionary')
  assert.equal(body.toString('hex', 0, 8), '5e2a4d1820000000')
  assert.deepEqual(body.subarray(8, 40), Buffer.from(sha256(older.bytes)))
  assert.ok(zstdDecompressSync(body.subarray(40), { dictionary: older.bytes }).equals(newer.bytes))
  assert.ok(body.length < 500, `${body.length} bytes`)
  const count = { bytes: LEAF_BYTES, wireBytes: body.length }
  assert.deepEqual([given.total(), given.byDifference()], [count, count])
})

const NO_DIFFERENCE: [title: string, headers: Record<string, string>][] = [
  ['dcz that is not asked for', { ...asking(named(older.bytes)), 'Accept-Encoding': 'zstd' }],
  ['dcz that is refused', { ...asking(named(older.bytes)), 'Accept-Encoding': 'dcz;q=0, zstd' }],
  ['no dictionary', { 'Accept-Encoding': 'dcz, zstd' }],
  ['a dictionary that is not here', asking(named(noise('nobody has it')))],
  ['a dictionary that others may not have', asking(named(secret.bytes))],
  ['no colons', asking(named(older.bytes).replaceAll(':', ''))],
  ['a digest that is too short', asking(`:${Buffer.alloc(31).toString('base64')}:`)],
  ['a digest that is too long', asking(`:${Buffer.alloc(33).toString('base64')}:`)],
  ['two dictionaries', asking(`${named(older.bytes)}, ${named(older.bytes)}`)],
  ['rubbish', asking('\u00ff'.repeat(60))],
]
for (const [title, headers] of NO_DIFFERENCE) {
  test(`the same answer as without a dictionary: ${title}`, async () => {
    const peer = codingPeer([older, newer, words], [secret])
    for (const nar of [newer, words]) {
      const plain = await peer.ask(nar, { 'Accept-Encoding': 'zstd' })
      peer.lent.length = 0
      const { response, body } = await peer.ask(nar, headers)
      assert.equal(response.status, 200)
      assert.deepEqual([...response.headers], [...plain.response.headers])
      assert.ok(body.equals(plain.body))
      // Nor does the time tell: no other block was read.
      assert.deepEqual(
        peer.lent.filter((cid) => cid !== cidOf(nar)),
        [],
      )
    }
  })
}

test('an older leaf that does not help makes nothing larger', async () => {
  const peer = codingPeer([older, newer, words])
  for (const _ of [1, 2]) {
    const plain = await peer.ask(words, { 'Accept-Encoding': 'zstd' })
    const coded = await peer.ask(words, asking(named(older.bytes)))
    assert.ok(coded.body.length <= plain.body.length)
    const raw = await peer.ask(newer, asking(named(words.bytes)))
    assert.equal(raw.response.headers.get('content-encoding'), null)
    assert.ok(raw.body.equals(newer.bytes))
  }
})

test('a leaf that lies ready in zstd, and is smaller so, goes out so', async () => {
  const coder = createLeafCoder()
  const options = { signal: new AbortController().signal }
  // Of no use to anything, and the header of a difference has 40 bytes.
  const dictionary = { cid: rawCid(sha256(Buffer.from('abc'))), bytes: Buffer.from('abc') }
  const lend = () => Promise.resolve({ bytes: dictionary.bytes, release: () => {} })
  const leaf = {
    cid: 'small',
    bytes: Buffer.concat([noise('a', 1_000), Buffer.alloc(7_000)]),
    peer: 'a',
    linkBytesPerS: 125_000,
  }
  const first = await coder.code(leaf, options)
  assert.equal(first?.coding, 'zstd')
  assert.equal(await coder.code({ ...leaf, dictionary: { cid: dictionary.cid, lend } }, options), first)
  assert.equal(coder.ready(leaf.cid, dictionary.cid.toString()), first)
  assert.equal(await coder.code({ ...leaf, dictionary: { cid: dictionary.cid, lend } }, options), first)
  assert.equal(coder.ready(leaf.cid), first)
})

test('a leaf that begins like a trained dictionary is none', async () => {
  const bytes = Buffer.from(older.bytes)
  Buffer.from('37a430ec', 'hex').copy(bytes)
  const trained = testNar(bytes)
  const { response, body } = await codingPeer([trained, newer]).ask(newer, asking(named(bytes)))
  assert.equal(response.headers.get('content-encoding'), null)
  assert.ok(body.equals(newer.bytes))
})

test('an older leaf that is gone from disk is none, and may come back', async () => {
  const peer = codingPeer([older, newer])
  const headers = asking(named(older.bytes))
  peer.gone.add(cidOf(older))
  assert.equal((await peer.ask(newer, headers)).response.headers.get('content-encoding'), null)
  peer.gone.clear()
  // A leaf that did not get smaller by itself may do by another.
  assert.equal((await peer.ask(newer, headers)).response.headers.get('content-encoding'), 'dcz')
})

test('validators, HEAD and ranges are as for zstd', async () => {
  const { ask } = codingPeer([older, newer])
  const headers = asking(named(older.bytes))
  const tag = `"${cidOf(newer)}.raw.dcz.${cidOf(older)}"`
  const rawTag = `"${cidOf(newer)}.raw"`
  const before = await ask(newer, headers, 'HEAD')
  assert.equal(before.response.headers.get('content-length'), String(LEAF_BYTES))
  assert.equal(before.response.headers.get('content-encoding'), null)
  const get = await ask(newer, headers)
  const after = await ask(newer, headers, 'HEAD')
  assert.deepEqual([...after.response.headers], [...get.response.headers])
  const known = await ask(newer, { ...headers, 'If-None-Match': tag })
  assert.deepEqual([known.response.status, known.response.headers.get('etag')], [304, tag])
  const raw = await ask(newer, { ...headers, 'If-None-Match': rawTag })
  assert.deepEqual([raw.response.status, raw.response.headers.get('etag')], [304, rawTag])
  const other = await ask(newer, { 'Accept-Encoding': 'zstd', 'If-None-Match': tag })
  assert.deepEqual([other.response.status, other.response.headers.get('etag')], [200, rawTag])
  const range = await ask(newer, { ...headers, Range: 'bytes=10-19' })
  assert.equal(range.response.status, 206)
  assert.equal(range.response.headers.get('content-encoding'), null)
  assert.ok(range.body.equals(newer.bytes.subarray(10, 20)))
})

test('differences of one leaf from many lie beside each other, and none is taken for another', async () => {
  const coder = createLeafCoder()
  const options = { signal: new AbortController().signal }
  const leaf = { cid: cidOf(newer), bytes: newer.bytes, peer: 'a', linkBytesPerS: 125_000 }
  const olds = [1, 2, 3].map((at) => edited(newer.bytes, [at * 1_000]))
  const codes = await Promise.all(
    olds.map((bytes) => {
      const cid = rawCid(sha256(bytes))
      const lend = () => Promise.resolve({ bytes, release: () => {} })
      return coder.code({ ...leaf, dictionary: { cid, lend } }, options)
    }),
  )
  for (const [at, coded] of codes.entries()) {
    const dictionary = olds[at] ?? assert.fail()
    assert.equal(coded?.coding, 'dcz')
    assert.equal(coder.ready(leaf.cid, rawCid(sha256(dictionary)).toString()), coded)
    assert.ok(zstdDecompressSync(coded?.bytes.subarray(40) ?? '', { dictionary }).equals(newer.bytes))
  }
  // Of the leaf alone nothing was made.
  assert.equal(coder.ready(leaf.cid), undefined)
})

test('any leaf comes through sockets as the difference from any other as it was', async (t) => {
  const edit = fc.record({
    at: fc.nat(LEAF_BYTES),
    cut: fc.nat(70_000),
    put: fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc.nat(50_000).map((size) => randomBytes(size)),
    ),
  })
  const pairs = fc.record({
    size: fc.integer({ min: 1, max: LEAF_BYTES }),
    seed: fc.string(),
    edits: fc.array(edit, { maxLength: 6 }),
  })
  let differences = 0
  await fc.assert(
    fc.asyncProperty(pairs, async ({ size, seed, edits }) => {
      const old = noise(seed, size)
      let bytes = Buffer.from(old)
      for (const { at, cut, put } of edits) {
        bytes = Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + cut)]).subarray(0, LEAF_BYTES)
      }
      if (bytes.length === 0) return
      const { app, given } = codingPeer([testNar(old), testNar(bytes)])
      const { port } = await serve(t, app)
      const source = createGatewaySource({ url: `http://127.0.0.1:${port}`, knowsDifferences: () => true })
      const oldBlock: OldBlock = {
        digest: sha256(old),
        lend: () => Promise.resolve({ bytes: old, release: () => {} }),
      }
      try {
        const got = await source.fetch(
          { cid: rawCid(sha256(bytes)), maxBytes: LEAF_BYTES, old: () => oldBlock },
          { signal: AbortSignal.timeout(30_000) },
        )
        assert.ok(bytes.equals(got))
      } finally {
        await source.close()
      }
      if (given.byDifference().bytes > 0) differences += 1
    }),
    { numRuns: 60 },
  )
  assert.ok(differences > 20, `${differences} differences`)
})
