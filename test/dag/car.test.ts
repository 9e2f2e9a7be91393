import assert from 'node:assert/strict'
import { createReadStream, readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { CID } from 'multiformats/cid'
import { CarError, readCar, writeCar } from '../../src/dag/car.ts'
import type { CarBlock, CarReason } from '../../src/dag/car.ts'
import { nodeCid, parseCid, rawCid, sha256 } from '../../src/dag/cid.ts'
import { leafCount } from '../../src/dag/profile.ts'
import { checkLeaf, readNode, rootLink } from '../../src/dag/reader.ts'
import type { DagLink } from '../../src/dag/reader.ts'
import { BLOCK_MAX_BYTES, CAR_HEADER_MAX_BYTES } from '../../src/limits.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { goldenCids } from './golden.ts'
import { varint } from './protobuf.ts'

function block(bytes: Uint8Array): CarBlock {
  return { cid: rawCid(sha256(bytes)), bytes }
}

const BLOCKS = [block(Buffer.from('one')), block(Buffer.alloc(0)), block(Buffer.alloc(300, 7))]
const ROOT = nodeCid(sha256(Buffer.from('root')))

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function write(root: CID, blocks: Iterable<CarBlock>): Promise<Buffer> {
  return Buffer.concat(await collect(writeCar(root, blocks)))
}

/** The bytes in pieces of `size`. */
async function* pieces(bytes: Uint8Array, size = bytes.length): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function readAll(
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ roots: readonly CID[]; blocks: CarBlock[] }> {
  const { roots, blocks } = await readCar(chunks)
  return { roots, blocks: await collect(blocks) }
}

function refuses(reason: CarReason): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CarError, `expected a CarError, got ${String(error)}`)
    assert.equal(error.reason, reason, error.message)
    return true
  }
}

test(
  'the four CARs of Kubo: every block is right, and the tree is whole',
  { skip: skipWithoutVectors() },
  async (t) => {
    const goldens = goldenCids()
    for (const name of ['mod251-3145735', 'zero-2147483648', 'zero-4294967295', 'zero-5368709121']) {
      await t.test(name, async () => {
        const path = `${vectorsDir() ?? ''}kubo/${name}.car`
        const { roots, blocks } = await readAll(createReadStream(path))
        const golden = goldens.find(({ content, size }) => `${content}-${size}` === name)
        assert.ok(golden !== undefined)
        assert.deepEqual(roots.map(String), [golden.cid])
        const byCid = new Map(blocks.map(({ cid, bytes }) => [cid.toString(), bytes]))
        // A block that the CAR has once may stand in the NAR thousands of times.
        assert.equal(byCid.size, blocks.length)

        let next = 0
        let leaves = 0
        const checked = new Set<string>()
        /** Depth first, each once: `order=dfs; dups=n`. */
        const inOrder: CarBlock[] = []
        const walk = (link: DagLink): void => {
          const key = link.cid.toString()
          const bytes = byCid.get(key)
          assert.ok(bytes !== undefined, `no block ${key}`)
          if (!checked.has(key)) inOrder.push({ cid: link.cid, bytes })
          if (link.depth > 0) {
            checked.add(key)
            for (const child of readNode(link, bytes)) walk(child)
            return
          }
          if (!checked.has(key)) checkLeaf(link, bytes)
          checked.add(key)
          assert.equal(link.offset, next)
          assert.equal(link.size, bytes.length)
          next += bytes.length
          leaves++
        }
        walk(rootLink(parseCid(golden.cid), golden.size))
        assert.equal(next, golden.size)
        assert.equal(leaves, leafCount(golden.size))

        const written = await write(parseCid(golden.cid), inOrder)
        assert.ok(written.equals(readFileSync(path)), 'written again it is the same CAR, byte for byte')
      })
    }
  },
)

test('a CAR comes back, however it is cut', async () => {
  const car = await write(ROOT, BLOCKS)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: car.length }), async (size) => {
      const { roots, blocks } = await readAll(pieces(car, size))
      assert.deepEqual(roots.map(String), [ROOT.toString()])
      assert.equal(blocks.length, BLOCKS.length)
      for (const [i, { cid, bytes }] of blocks.entries()) {
        assert.equal(cid.toString(), BLOCKS[i]?.cid.toString())
        assert.deepEqual(Buffer.from(bytes), Buffer.from(BLOCKS[i]?.bytes ?? []))
      }
    }),
  )
})

test('a CAR of no blocks is one, and empty chunks are nothing', async () => {
  const car = await write(ROOT, [])
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(0)
    yield car
    yield Buffer.alloc(0)
  }
  assert.deepEqual((await readAll(chunks())).blocks, [])
})

test('the writer hands on the bytes of a block as they are', async () => {
  const parts = await collect(writeCar(ROOT, BLOCKS))
  assert.equal(parts.length, 1 + 2 * BLOCKS.length)
  assert.equal(parts[2], BLOCKS[0]?.bytes)
})

test('a CAR cut anywhere but between two blocks is truncated', async () => {
  const car = await write(ROOT, BLOCKS)
  const header = await write(ROOT, [])
  const whole = new Set([header.length])
  for (let i = 1; i <= BLOCKS.length; i++) whole.add((await write(ROOT, BLOCKS.slice(0, i))).length)
  for (let length = 0; length < car.length; length++) {
    const reading = readAll(pieces(car.subarray(0, length)))
    if (whole.has(length)) await reading
    else await assert.rejects(reading, refuses('truncated'), `cut at ${length}`)
  }
})

test('hostile CARs are refused with their reason', async (t) => {
  const header = await write(ROOT, [])
  const body = header.subarray(1)
  const framed = (bytes: Uint8Array): Buffer => Buffer.concat([varint(bytes.length), bytes])
  const section = (cid: Uint8Array, bytes: Uint8Array): Buffer =>
    Buffer.concat([header, framed(Buffer.concat([cid, bytes]))])
  const digest = sha256(Buffer.from('x'))
  const cid = (prefix: string, rest: Uint8Array): Buffer => Buffer.concat([Buffer.from(prefix, 'hex'), rest])
  const edited = (from: string, to: string): Buffer => {
    const hex = body.toString('hex')
    assert.ok(hex.includes(from))
    return framed(Buffer.from(hex.replace(from, to), 'hex'))
  }
  const version = Buffer.from('version').toString('hex')
  const roots = Buffer.from('roots').toString('hex')
  const rootCid = Buffer.from(ROOT.bytes).toString('hex')
  const table: [title: string, reason: CarReason, bytes: Uint8Array][] = [
    ['a header of 0 bytes', 'header', Buffer.of(0)],
    ['a CAR v2', 'header', Buffer.from('0aa16776657273696f6e02', 'hex')],
    ['version 2', 'header', edited(`${version}01`, `${version}02`)],
    ['version 1 in two bytes', 'header', edited(`${version}01`, `${version}1801`)],
    [
      'version before roots',
      'header',
      framed(Buffer.from(`a267${version}0165${roots}81d82a582500${rootCid}`, 'hex')),
    ],
    ['no roots', 'header', framed(Buffer.from(`a265${roots}8067${version}01`, 'hex'))],
    [
      'two roots counted as one',
      'header',
      edited(`d82a582500${rootCid}`, `d82a582500${rootCid}d82a582500${rootCid}`),
    ],
    [
      '24 roots',
      'header',
      framed(Buffer.from(`a265${roots}9818${`d82a582500${rootCid}`.repeat(24)}67${version}01`, 'hex')),
    ],
    ['a root without its tag', 'header', edited('d82a', 'd82b')],
    ['a root of another base', 'header', edited('582500', '582501')],
    ['a root of sha1 code', 'header', edited('01701220', '01701120')],
    ['a CIDv0 root', 'header', edited(`582500${rootCid}`, `58230012${rootCid.slice(6)}`)],
    [
      'a third key',
      'header',
      framed(Buffer.concat([Buffer.of(0xa3), body.subarray(1), Buffer.from('617801', 'hex')])),
    ],
    [
      'a map of no length',
      'header',
      framed(Buffer.concat([Buffer.of(0xbf), body.subarray(1), Buffer.of(0xff)])),
    ],
    ['a header above the cap', 'length', varint(CAR_HEADER_MAX_BYTES + 1)],
    ['a header of 2^64 - 1 bytes', 'length', varint(2n ** 64n - 1n)],
    ['a length of 11 bytes', 'length', Buffer.concat([Buffer.alloc(10, 0x80), Buffer.of(1)])],
    ['an overlong length', 'length', Buffer.concat([Buffer.of((header[0] ?? 0) | 0x80, 0), body])],
    ['HTML', 'header', Buffer.from(`<!DOCTYPE html>${' '.repeat(80)}`)],
    ['null padding', 'length', Buffer.concat([header, Buffer.alloc(8)])],
    ['a block too short for a CID', 'length', Buffer.concat([header, framed(Buffer.alloc(35))])],
    ['F10 a block of 2 MiB + 1', 'length', Buffer.concat([header, varint(36 + BLOCK_MAX_BYTES + 1)])],
    ['a block of 2^53 bytes', 'length', Buffer.concat([header, varint(2n ** 53n)])],
    ['a block with an overlong length', 'length', Buffer.concat([header, Buffer.of(0xa4, 0x80, 0)])],
    ['F8 a block with an identity CID', 'cid', section(cid('01550020', digest), Buffer.alloc(0))],
    ['F9 a block with a CIDv0', 'cid', section(cid('1220', digest), Buffer.from('xyz'))],
    ['F9 a block with sha1', 'cid', section(cid('01551114', digest), Buffer.from('x'))],
    ['F9 a block of dag-cbor', 'cid', section(cid('01711220', digest), Buffer.from('x'))],
    ['a block with other bytes', 'digest', section(cid('01551220', digest), Buffer.from('y'))],
    ['a block without its bytes', 'digest', section(cid('01551220', digest), Buffer.alloc(0))],
  ]
  for (const [title, reason, bytes] of table) {
    await t.test(title, async () => {
      await assert.rejects(readAll(pieces(bytes)), refuses(reason))
      await assert.rejects(readAll(pieces(bytes, 1)), refuses(reason))
    })
  }
})

test('a header of 23 roots is read', async () => {
  const one = Buffer.concat([Buffer.from('d82a582500', 'hex'), ROOT.bytes])
  const header = Buffer.concat([
    Buffer.from('\u00a2\u0065roots\u0097', 'latin1'),
    ...Array<Buffer>(23).fill(one),
    Buffer.from('\u0067version\u0001', 'latin1'),
  ])
  const { roots } = await readAll(pieces(Buffer.concat([varint(header.length), header])))
  assert.equal(roots.length, 23)
})

test('the chunks are ended by whoever stops reading, and by an error', async (t) => {
  const car = await write(ROOT, BLOCKS)
  const endless = (first: Uint8Array, state: { closed: boolean }): AsyncIterable<Uint8Array> =>
    (async function* () {
      try {
        yield first
        for (;;) yield Buffer.alloc(100)
      } finally {
        state.closed = true
      }
    })()

  await t.test('after the first block', async () => {
    const state = { closed: false }
    const { blocks } = await readCar(endless(car, state))
    for await (const { bytes } of blocks) {
      assert.equal(String(bytes), 'one')
      break
    }
    assert.ok(state.closed)
  })
  await t.test('a bad header', async () => {
    const state = { closed: false }
    await assert.rejects(readCar(endless(Buffer.alloc(100), state)), refuses('header'))
    assert.ok(state.closed)
  })
  await t.test('a bad block', async () => {
    const state = { closed: false }
    await assert.rejects(readAll(endless(car, state)), refuses('length'))
    assert.ok(state.closed)
  })
})

test('an error of the chunks is theirs', async () => {
  const car = await write(ROOT, BLOCKS)
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield car.subarray(0, 150)
    throw new Error('connection reset')
  }
  await assert.rejects(readAll(chunks()), { message: 'connection reset' })
})
