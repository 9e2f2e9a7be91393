import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode, prepare } from '@ipld/dag-pb'
import { nodeCid, rawCid, sha256 } from '../../src/dag/cid.ts'
import { encodeNode } from '../../src/dag/node-encoder.ts'
import { leafCount, leafSize, LEAF_BYTES } from '../../src/dag/profile.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { skipWithoutVectors } from '../kit/vectors.ts'
import { createContents, goldenCids } from './golden.ts'

test(
  'every golden CID of Kubo, from 0 to 5 GiB + 1, out of leaf digests',
  { skip: skipWithoutVectors() },
  async (t) => {
    const goldens = goldenCids()
    assert.equal(goldens.length, 37)
    const contents = createContents()
    // Full leaves of zeros are all one, those of mod251 at most 251 different ones.
    const digests = new Map<string, Uint8Array>()
    for (const { content, size, cid } of goldens) {
      await t.test(`${content} ${size}`, () => {
        const tree = createTreeBuilder()
        for (let i = 0; i < leafCount(size); i++) {
          const length = leafSize(size, i)
          const key = `${content} ${content === 'zero' ? 0 : (i * LEAF_BYTES) % 251} ${length}`
          const digest = digests.get(key) ?? sha256(contents(content, i * LEAF_BYTES, length))
          digests.set(key, digest)
          tree.addLeaf(digest, length)
        }
        assert.equal(tree.finish().root.toString(), cid)
      })
    }
  },
)

test('nodes come children first, root last, and equal ones once', () => {
  const tree = createTreeBuilder()
  const digest = sha256(new Uint8Array(LEAF_BYTES))
  for (let i = 0; i < 3 * 1024 + 1; i++) tree.addLeaf(digest, LEAF_BYTES)
  const { root, nodes } = tree.finish()
  assert.equal(nodes.length, 3)
  assert.ok(nodes[2]?.cid.equals(root))
  for (const { cid, bytes } of nodes) assert.ok(cid.equals(nodeCid(sha256(bytes))))
})

test('one leaf is the root itself, without a node', () => {
  const digest = sha256(Buffer.from('a NAR of at most 1 MiB'))
  const tree = createTreeBuilder()
  tree.addLeaf(digest, 22)
  const { root, nodes } = tree.finish()
  assert.ok(root.equals(rawCid(digest)))
  assert.deepEqual(nodes, [])
})

test('leaves that the profile has not are refused', async (t) => {
  const digest = new Uint8Array(32)
  const table: [string, readonly number[]][] = [
    ['above 1 MiB', [LEAF_BYTES + 1]],
    ['one after a short one', [LEAF_BYTES, 5, LEAF_BYTES]],
    ['an empty one after others', [LEAF_BYTES, 0]],
    ['one after an empty one', [0, 1]],
    ['half a byte', [0.5]],
    ['below 0', [-1]],
  ]
  for (const [title, sizes] of table) {
    await t.test(title, () => {
      const tree = createTreeBuilder()
      assert.throws(() => {
        for (const size of sizes) tree.addLeaf(digest, size)
      }, RangeError)
    })
  }
  await t.test('a digest of 20 bytes', () => {
    assert.throws(() => createTreeBuilder().addLeaf(new Uint8Array(20), 1), RangeError)
  })
  await t.test('none at all', () => {
    assert.throws(() => createTreeBuilder().finish(), RangeError)
  })
})

test('a node is what @ipld/dag-pb makes of the same links and data', () => {
  const digests = Buffer.concat([sha256(Buffer.from('one')), sha256(Buffer.from('two'))])
  const size = LEAF_BYTES + 300
  const Data = Buffer.from('080218ac82402080804020ac02', 'hex')
  const Links = [
    { Hash: rawCid(digests.subarray(0, 32)), Name: '', Tsize: LEAF_BYTES },
    { Hash: rawCid(digests.subarray(32)), Name: '', Tsize: 300 },
  ]
  assert.deepEqual(encodeNode(size, 1, digests), new Uint8Array(encode(prepare({ Data, Links }))))
})
