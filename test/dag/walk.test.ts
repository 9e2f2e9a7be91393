import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodeCid, rawCid, sha256 } from '../../src/dag/cid.ts'
import { encodeNode } from '../../src/dag/node-encoder.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { DagError, rootLink } from '../../src/dag/reader.ts'
import type { DagLink } from '../../src/dag/reader.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { walkBlocks } from '../../src/dag/walk.ts'

const ZEROS = new Uint8Array(LEAF_BYTES)

test('F13 10,000 times the same leaf: one block of it is asked for', async () => {
  const tree = createTreeBuilder()
  const digest = sha256(ZEROS)
  const count = 10_000
  for (let i = 0; i < count; i++) tree.addLeaf(digest, LEAF_BYTES)
  const { root, nodes } = tree.finish()
  const blocks = new Map(nodes.map(({ cid, bytes }) => [cid.toString(), bytes]))
  blocks.set(rawCid(digest).toString(), ZEROS)

  const asked: string[] = []
  const given: string[] = []
  const get = async ({ cid }: DagLink): Promise<Uint8Array> => {
    asked.push(cid.toString())
    return blocks.get(cid.toString()) ?? Buffer.alloc(0)
  }
  for await (const { cid } of walkBlocks(rootLink(root, count * LEAF_BYTES), get)) given.push(cid.toString())
  assert.deepEqual(given, asked)
  assert.deepEqual(new Set(given), new Set(blocks.keys()))
  assert.equal(given.length, blocks.size)
  assert.equal(given[0], root.toString())
})

test('a block that stands where two sizes are due is refused, not skipped', async () => {
  const digest = sha256(ZEROS)
  const size = LEAF_BYTES + 5
  const node = encodeNode(size, 1, Buffer.concat([digest, digest]))
  const root = rootLink(nodeCid(sha256(node)), size)
  const walk = async (): Promise<void> => {
    for await (const { bytes } of walkBlocks(root, async ({ depth }) => (depth === 0 ? ZEROS : node))) {
      assert.ok(bytes.length > 0)
    }
  }
  await assert.rejects(walk, (error) => error instanceof DagError && error.reason === 'leaf-size')
})

test('wrong bytes for a block end the walk before they are given', async () => {
  const root = rootLink(rawCid(sha256(Buffer.from('right'))), 5)
  const blocks = walkBlocks(root, async () => Buffer.from('wrong'))
  await assert.rejects(blocks.next(), (error) => error instanceof DagError && error.reason === 'digest')
})
