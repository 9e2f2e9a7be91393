import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CID } from 'multiformats/cid'
import { CidError, nodeCid, rawCid, sha256 } from '../../src/dag/cid.ts'
import { leafCount, leafSize, LEAF_BYTES } from '../../src/dag/profile.ts'
import { checkLeaf, DagError, readNode, rootLink } from '../../src/dag/reader.ts'
import type { DagLink, DagReason } from '../../src/dag/reader.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { DAG_NODE_MAX_BYTES } from '../../src/limits.ts'
import { bytes as field, number, pbLink, unixfs, varint } from './protobuf.ts'

const MIB = LEAF_BYTES
const GIB = 1024 * MIB
/** Two leaves, of 1 MiB and of 300 bytes. */
const SIZE = MIB + 300
const FIRST = rawCid(sha256(Buffer.from('first')))
const LAST = rawCid(sha256(Buffer.from('last')))
const LINKS = [
  { hash: FIRST.bytes, name: '', tsize: MIB },
  { hash: LAST.bytes, name: '', tsize: 300 },
]
const DATA = unixfs(2, SIZE, [MIB, 300])

function node(links: readonly Buffer[], data: Uint8Array): Buffer {
  return Buffer.concat([...links, field(1, data)])
}

/** The good node with other Data. */
function withData(data: Uint8Array): Buffer {
  return node(LINKS.map(pbLink), data)
}

/** The good node with another last link. */
function withLast(change: Parameters<typeof pbLink>[0]): Buffer {
  return node([pbLink(LINKS[0] ?? {}), pbLink({ ...LINKS[1], ...change })], DATA)
}

/** As a root that somebody published: the digest is right, whatever the bytes are. */
function read(bytes: Uint8Array, narSize = SIZE): DagLink[] {
  return readNode(rootLink(nodeCid(sha256(bytes)), narSize), bytes)
}

function refuses(reason: DagReason): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DagError, `expected a DagError, got ${String(error)}`)
    assert.equal(error.reason, reason, error.message)
    return true
  }
}

function cidBytes(hex: string, digest: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(hex, 'hex'), digest])
}

const digest = sha256(Buffer.from('some block'))

test('a good node gives its links, in order, tiling its bytes', () => {
  const links = read(node(LINKS.map(pbLink), DATA))
  assert.equal(links.length, 2)
  assert.deepEqual(
    links.map(({ cid, offset, size, depth }) => ({ cid: cid.toString(), offset, size, depth })),
    [
      { cid: FIRST.toString(), offset: 0, size: MIB, depth: 0 },
      { cid: LAST.toString(), offset: MIB, size: 300, depth: 0 },
    ],
  )
})

test('hostile nodes are refused with their reason', async (t) => {
  const good = LINKS.map(pbLink)
  const [first = Buffer.alloc(0), last = Buffer.alloc(0)] = good
  const zeroLink = pbLink({ hash: FIRST.bytes, name: '', tsize: 0 })
  const table: [title: string, reason: DagReason, bytes: Uint8Array][] = [
    [
      'F1 zero-sized links between the real ones',
      'block-sizes',
      node([first, zeroLink, zeroLink, last], unixfs(2, SIZE, [MIB, 0, 0, 300])),
    ],
    ['F1 zero-sized links without blocksizes', 'link-count', node([first, zeroLink, last], DATA)],
    ['F1 a zero size in place of a real one', 'block-sizes', withData(unixfs(2, SIZE, [0, SIZE]))],
    ['F2 a link of a chain where a leaf is due', 'codec', withLast({ hash: nodeCid(digest).bytes })],
    [
      'F2 one link that holds it all',
      'block-sizes',
      node([pbLink({ hash: nodeCid(digest).bytes, name: '', tsize: SIZE + 100 })], unixfs(2, SIZE, [SIZE])),
    ],
    ['F3 two halves of the doubled size', 'file-size', withData(unixfs(2, 2 * MIB, [MIB, MIB]))],
    ['F4 a blocksize above its place', 'block-sizes', withData(unixfs(2, SIZE, [MIB, 301]))],
    [
      'F4 leaves of 512 KiB',
      'block-sizes',
      node([first, last, last], unixfs(2, SIZE, [MIB / 2, MIB / 2, 300])),
    ],
    ['F5 filesize below the sum', 'file-size', withData(unixfs(2, SIZE - 1, [MIB, 300]))],
    ['F5 filesize 0', 'file-size', withData(unixfs(2, 0, [MIB, 300]))],
    ['F5 filesize 2^62', 'unixfs', withData(unixfs(2, 2n ** 62n, [MIB, 300]))],
    ['F5 filesize 2^53', 'unixfs', withData(unixfs(2, 2n ** 53n, [MIB, 300]))],
    [
      'F5 blocksizes that sum up by wrapping',
      'unixfs',
      withData(unixfs(2, SIZE, [2n ** 64n - 1n, SIZE + 1])),
    ],
    ['F5 no filesize', 'unixfs', withData(Buffer.concat([number(1, 2), number(4, MIB), number(4, 300)]))],
    ['F6 one link fewer than blocksizes', 'link-count', node([first], DATA)],
    ['F6 one link more than blocksizes', 'link-count', node([first, last, last], DATA)],
    ['F6 no blocksizes', 'block-sizes', withData(unixfs(2, SIZE, []))],
    ['F6 no links', 'link-count', node([], DATA)],
    ['F7 directory', 'type', withData(number(1, 1))],
    ['F7 symlink', 'type', withData(Buffer.concat([number(1, 4), field(2, Buffer.from('/etc/passwd'))]))],
    ['F7 metadata', 'type', withData(number(1, 3))],
    ['F7 raw', 'type', withData(unixfs(0, SIZE, [MIB, 300]))],
    [
      'F7 HAMT with fanout 2^40',
      'type',
      withData(Buffer.concat([number(1, 5), number(5, 0x22), number(6, 2 ** 40)])),
    ],
    ['F7 HAMT with fanout 0', 'type', withData(Buffer.concat([number(1, 5), number(5, 0x22), number(6, 0)]))],
    ['F7 a file with fanout', 'extra-field', withData(Buffer.concat([DATA, number(6, 256)]))],
    ['F7 a file with hashType', 'extra-field', withData(Buffer.concat([DATA, number(5, 0x22)]))],
    ['F7 a file with mode', 'extra-field', withData(Buffer.concat([DATA, number(7, 0o644)]))],
    ['F7 a file with mtime', 'extra-field', withData(Buffer.concat([DATA, field(8, number(1, 1))]))],
    ['F8 identity CID as a leaf', 'cid', withLast({ hash: cidBytes('01550003', Buffer.from('abc')) })],
    ['F8 empty identity CID', 'cid', withLast({ hash: cidBytes('01550000', Buffer.alloc(0)) })],
    [
      'F8 identity CID of 500 KB',
      'too-large',
      withLast({ hash: Buffer.concat([Buffer.from([1, 0x55, 0]), varint(500_000), Buffer.alloc(500_000)]) }),
    ],
    ['F9 sha1', 'cid', withLast({ hash: cidBytes('01551114', digest.subarray(0, 20)) })],
    ['F9 blake3', 'cid', withLast({ hash: cidBytes('01551e20', digest) })],
    ['F9 murmur3-x64-64', 'cid', withLast({ hash: cidBytes('01552208', digest.subarray(0, 8)) })],
    ['F9 sha2-256 cut to 20 bytes', 'cid', withLast({ hash: cidBytes('01551214', digest.subarray(0, 20)) })],
    ['F9 dag-cbor', 'cid', withLast({ hash: cidBytes('01711220', digest) })],
    ['F9 CIDv0', 'cid', withLast({ hash: cidBytes('1220', digest) })],
    ['F9 dag-pb for a leaf', 'codec', withLast({ hash: cidBytes('01701220', digest) })],
    [
      'F9 a CID of two spare bytes',
      'dag-pb',
      withLast({ hash: cidBytes('01551220', Buffer.concat([digest, digest.subarray(0, 2)])) }),
    ],
    ['F9 a CID cut off', 'dag-pb', withLast({ hash: cidBytes('01551220', digest.subarray(0, 31)) })],
    ['F9 overlong varints in a CID', 'dag-pb', withLast({ hash: cidBytes('8100551220', digest) })],
    ['F10 an empty block', 'unixfs', Buffer.alloc(0)],
    ['F10 a block of 4 MiB', 'too-large', Buffer.alloc(4 * MIB)],
    ['F10 one byte above the cap', 'too-large', Buffer.alloc(DAG_NODE_MAX_BYTES + 1)],
    ['F11 Data before Links', 'not-canonical', Buffer.concat([field(1, DATA), ...good])],
    ['F11 Data between Links', 'dag-pb', Buffer.concat([first, field(1, DATA), last])],
    ['F11 Data twice', 'dag-pb', Buffer.concat([withData(DATA), field(1, DATA)])],
    ['F11 no Data', 'unixfs', Buffer.concat(good)],
    ['F11 wire type 5', 'dag-pb', Buffer.concat([withData(DATA), Buffer.from([0x1d, 0, 0, 0, 0])])],
    ['F11 wire type 7', 'dag-pb', Buffer.concat([withData(DATA), Buffer.from([0x0f])])],
    ['F11 field 0', 'dag-pb', Buffer.concat([withData(DATA), field(0, Buffer.alloc(1))])],
    ['F11 field 3', 'dag-pb', Buffer.concat([withData(DATA), field(3, Buffer.alloc(1))])],
    [
      'F11 a length of 11 bytes',
      'dag-pb',
      Buffer.concat([Buffer.from([0x0a]), Buffer.alloc(10, 0x80), Buffer.from([1])]),
    ],
    [
      'F11 an overlong length',
      'not-canonical',
      Buffer.concat([...good, Buffer.from([0x0a, DATA.length | 0x80, 0]), DATA]),
    ],
    ['F11 cut off in the last field', 'dag-pb', withData(DATA).subarray(0, -1)],
    [
      'F11 Name before Hash',
      'dag-pb',
      node(
        [first, field(2, Buffer.concat([field(2, Buffer.alloc(0)), field(1, LAST.bytes), number(3, 300)]))],
        DATA,
      ),
    ],
    ['F11 a link without Hash', 'dag-pb', node([first, pbLink({ name: '', tsize: 300 })], DATA)],
    ['F11 Tsize one too high', 'tsize', withLast({ tsize: 301 })],
    ['F11 Tsize 0', 'tsize', withLast({ tsize: 0 })],
    ['F11 Tsize 2^63', 'tsize', withLast({ tsize: 2n ** 63n })],
    ['F11 no Tsize', 'tsize', node([first, pbLink({ hash: LAST.bytes, name: '' })], DATA)],
    ['F11 a name', 'link-name', withLast({ name: 'x' })],
    [
      'F11 a name that is not UTF-8',
      'link-name',
      node(
        [
          first,
          field(2, Buffer.concat([field(1, LAST.bytes), field(2, Buffer.from([0xff])), number(3, 300)])),
        ],
        DATA,
      ),
    ],
    ['F11 no name', 'link-name', node([first, pbLink({ hash: LAST.bytes, tsize: 300 })], DATA)],
    [
      'F11 UnixFS fields out of order',
      'not-canonical',
      withData(Buffer.concat([number(3, SIZE), number(1, 2), number(4, MIB), number(4, 300)])),
    ],
    [
      'F11 an overlong varint in UnixFS',
      'unixfs',
      withData(Buffer.concat([Buffer.from([8, 0x82, 0]), number(3, SIZE), number(4, MIB), number(4, 300)])),
    ],
    [
      'F11 a varint of 11 bytes in UnixFS',
      'unixfs',
      withData(Buffer.concat([number(1, 2), Buffer.from([0x18]), Buffer.alloc(10, 0x80), Buffer.from([1])])),
    ],
    ['F11 UnixFS type twice', 'unixfs', withData(Buffer.concat([number(1, 2), DATA]))],
    ['F11 filesize twice', 'unixfs', withData(Buffer.concat([DATA, number(3, SIZE)]))],
    ['F11 UnixFS cut off', 'unixfs', withData(DATA.subarray(0, -1))],
    ['F11 UnixFS field 0', 'extra-field', withData(Buffer.concat([DATA, number(0, 1)]))],
    [
      'F11 packed blocksizes',
      'unixfs',
      withData(
        Buffer.concat([number(1, 2), number(3, SIZE), field(4, Buffer.concat([varint(MIB), varint(300)]))]),
      ),
    ],
    [
      'F12 file bytes in the node',
      'inner-data',
      withData(
        Buffer.concat([
          number(1, 2),
          field(2, Buffer.from('x')),
          number(3, SIZE + 1),
          number(4, MIB),
          number(4, 300),
        ]),
      ),
    ],
    [
      'F12 empty file bytes in the node',
      'inner-data',
      withData(
        Buffer.concat([
          number(1, 2),
          field(2, Buffer.alloc(0)),
          number(3, SIZE),
          number(4, MIB),
          number(4, 300),
        ]),
      ),
    ],
  ]
  for (const [title, reason, bytes] of table) {
    await t.test(title, () => {
      assert.throws(() => read(bytes), refuses(reason))
    })
  }
})

test('bytes that are not the block accuse the source, whatever else is wrong with them', async (t) => {
  const bytes = node(LINKS.map(pbLink), DATA)
  const root = rootLink(nodeCid(sha256(bytes)), SIZE)
  const flipped = Buffer.from(bytes)
  flipped[9] = (flipped[9] ?? 0) ^ 1
  const table: [string, Uint8Array][] = [
    ['one bit flipped', flipped],
    ['cut', bytes.subarray(0, -1)],
    ['empty', Buffer.alloc(0)],
    ['4 MiB of zeros', Buffer.alloc(4 * MIB)],
  ]
  for (const [title, other] of table) {
    await t.test(title, () => {
      assert.throws(() => readNode(root, other), refuses('digest'))
    })
  }
})

test('roots are checked before anything is fetched', async (t) => {
  const table: [string, CID, number, DagReason][] = [
    ['F9 dag-pb for a NAR of one leaf', nodeCid(digest), MIB, 'codec'],
    ['F9 dag-pb for an empty file', nodeCid(digest), 0, 'codec'],
    ['F9 raw for a NAR of two leaves', rawCid(digest), MIB + 1, 'codec'],
  ]
  for (const [title, root, narSize, reason] of table) {
    await t.test(title, () => {
      assert.throws(() => rootLink(root, narSize), refuses(reason))
    })
  }
  await t.test('F8 identity CID', () => {
    assert.throws(() => rootLink(CID.decode(cidBytes('01550003', Buffer.from('abc'))), 3), CidError)
  })
  for (const narSize of [-1, 0.5, Number.NaN, 2 ** 40 + 1, 2 ** 53]) {
    await t.test(`a NAR of ${narSize} bytes`, () => {
      assert.throws(() => rootLink(nodeCid(digest), narSize), RangeError)
    })
  }
})

test('F4 a leaf is of its exact length', async (t) => {
  const table: [string, number, number, DagReason | undefined][] = [
    ['a full leaf', 2 * MIB, MIB, undefined],
    ['a full leaf, one byte short', 2 * MIB, MIB - 1, 'leaf-size'],
    ['a full leaf, one byte long', 2 * MIB, MIB + 1, 'leaf-size'],
    ['an empty block', 2 * MIB, 0, 'leaf-size'],
    ['F10 2 MiB + 1', 2 * MIB, 2 * MIB + 1, 'leaf-size'],
  ]
  for (const [title, narSize, length, reason] of table) {
    await t.test(title, () => {
      const bytes = Buffer.alloc(length, 1)
      const link = { cid: rawCid(sha256(bytes)), offset: 0, size: leafSize(narSize, 0), depth: 0 }
      if (reason === undefined) checkLeaf(link, bytes)
      else assert.throws(() => checkLeaf(link, bytes), refuses(reason))
      assert.throws(() => checkLeaf(link, Buffer.alloc(length + 1, 2)), refuses('digest'))
    })
  }
})

test('a node is not read as a leaf, nor a leaf as a node', () => {
  const bytes = node(LINKS.map(pbLink), DATA)
  assert.throws(() => checkLeaf(rootLink(nodeCid(sha256(bytes)), SIZE), bytes), RangeError)
  assert.throws(() => readNode(rootLink(rawCid(sha256(bytes)), 300), bytes), RangeError)
})

/** Walks what the builder made, and gives the leaf links; the blocks of the nodes are all it has. */
function leavesOf(narSize: number, digestOf: (index: number) => Uint8Array): DagLink[] {
  const tree = createTreeBuilder()
  for (let i = 0; i < leafCount(narSize); i++) tree.addLeaf(digestOf(i), leafSize(narSize, i))
  const { root, nodes } = tree.finish()
  const blocks = new Map(nodes.map(({ cid, bytes }) => [cid.toString(), bytes]))
  const below = (link: DagLink): DagLink[] =>
    link.depth === 0
      ? [link]
      : readNode(link, blocks.get(link.cid.toString()) ?? Buffer.alloc(0)).flatMap(below)
  return below(rootLink(root, narSize))
}

test('F14 sizes from 2 to 4 GiB and beyond go through builder and reader', async (t) => {
  for (const narSize of [2 ** 31 - 1, 2 ** 31, 3 * GIB, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 9 * GIB + 5]) {
    await t.test(`${narSize} bytes`, () => {
      const leaves = leavesOf(narSize, () => digest)
      assert.equal(leaves.length, leafCount(narSize))
      assert.equal(leaves.at(-1)?.offset, narSize - leafSize(narSize, leaves.length - 1))
    })
  }
})

test('F13 the largest NAR, 1 TiB of one leaf, is three levels deep and reads in no time', () => {
  const narSize = 2 ** 40
  const tree = createTreeBuilder()
  for (let i = 0; i < leafCount(narSize); i++) tree.addLeaf(digest, MIB)
  const { root, nodes } = tree.finish()
  assert.equal(nodes.length, 2)
  assert.ok(nodes.every(({ bytes }) => bytes.length <= DAG_NODE_MAX_BYTES))
  const rootBytes = nodes.at(-1)?.bytes ?? Buffer.alloc(0)
  const link = rootLink(root, narSize)
  assert.equal(link.depth, 2)
  const last = readNode(link, rootBytes).at(-1)
  assert.ok(last !== undefined)
  assert.equal(last.offset, 1023 * GIB)
  assert.equal(readNode(last, nodes[0]?.bytes ?? Buffer.alloc(0)).at(-1)?.offset, narSize - MIB)
})

test('F15 each link is one level nearer to the leaves, so that a walk ends without looking for cycles', () => {
  const tree = createTreeBuilder()
  for (let i = 0; i < 1025; i++) tree.addLeaf(digest, MIB)
  const { root, nodes } = tree.finish()
  const children = readNode(rootLink(root, 1025 * MIB), nodes.at(-1)?.bytes ?? Buffer.alloc(0))
  assert.deepEqual(
    children.map(({ depth, size }) => [depth, size]),
    [
      [1, GIB],
      [1, MIB],
    ],
  )
  // The root's own CID in its child's place: were it possible, its shape would not fit there.
  const again = { cid: root, offset: 0, size: GIB, depth: 1 }
  assert.throws(() => readNode(again, nodes.at(-1)?.bytes ?? Buffer.alloc(0)), refuses('file-size'))
})

test('whatever the size, the leaves come back in order', () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 5 * MIB }), fc.integer({ min: 1, max: 3 * GIB }))
  fc.assert(
    fc.property(size, (narSize) => {
      const digestOf = (index: number): Uint8Array => sha256(Buffer.from(`leaf ${index}`))
      const leaves = leavesOf(narSize, digestOf)
      assert.equal(leaves.length, leafCount(narSize))
      let offset = 0
      for (const [i, leaf] of leaves.entries()) {
        assert.equal(leaf.offset, offset)
        assert.equal(leaf.size, leafSize(narSize, i))
        assert.deepEqual(Buffer.from(leaf.cid.multihash.digest), digestOf(i))
        offset += leaf.size
      }
      assert.equal(offset, narSize)
    }),
    { numRuns: 25 },
  )
})

test('any other bytes in place of a node throw a DagError and nothing else', () => {
  const good = node(LINKS.map(pbLink), DATA)
  const mutation = fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }))
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.array(mutation, { minLength: 1, maxLength: 3 })),
      (change) => {
        const bytes = change instanceof Uint8Array ? change : Buffer.from(good)
        if (!(change instanceof Uint8Array))
          for (const [at, bits] of change) bytes[at] = (bytes[at] ?? 0) ^ bits
        try {
          // Digests are free; all else is fixed, so what still reads is the good node with other leaves.
          const links = read(bytes)
          assert.deepEqual(
            links.map(({ size }) => size),
            [MIB, 300],
          )
          assert.equal(bytes.length, good.length)
        } catch (error) {
          if (!(error instanceof DagError)) throw error
        }
      },
    ),
    { numRuns: 2000 },
  )
})
