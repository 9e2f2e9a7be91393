import assert from 'node:assert/strict'
import { mkdir, open, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, test, type TestContext } from 'node:test'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import type { ChunkBuffers } from '../../src/spool/chunk-buffers.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { realStore } from '../store/real-store.ts'
import { leafOf, noise, options, pathIn, planOf, spoolBench, store } from './kit.ts'

async function blocksBench(t: TestContext) {
  const bench = await spoolBench(t)
  const index = openLeafIndex(bench.db)
  return { ...bench, index, blocks: createLocalBlocks({ index, spool: bench.spool, log: bench.log }) }
}

test('each block of a NAR in the spool is given as it is', async (t) => {
  const { spool, index, blocks } = await blocksBench(t)
  const nar = noise(2 * LEAF_BYTES + 5)
  const plan = await store(spool, nar)
  index.put(plan, { shared: true, inSpool: true })
  for (let leaf = 0; leaf < 3; leaf++) {
    const bytes = leafOf(nar, leaf)
    const cid = rawCid(sha256(bytes))
    assert.equal(Buffer.compare((await blocks.get(cid, 'shared', options)) ?? Buffer.alloc(0), bytes), 0)
    assert.equal(blocks.size(cid, 'shared'), bytes.length)
  }
  const [node] = plan.nodes
  assert.ok(node)
  assert.equal(
    Buffer.compare((await blocks.get(node.cid, 'shared', options)) ?? Buffer.alloc(0), node.bytes),
    0,
  )
  assert.equal(blocks.size(node.cid, 'shared'), node.bytes.length)
  const small = noise(700, 'small')
  const smallPlan = await store(spool, small)
  index.put(smallPlan, { shared: true, inSpool: true })
  assert.equal(
    Buffer.compare((await blocks.get(smallPlan.root, 'shared', options)) ?? Buffer.alloc(0), small),
    0,
  )
})

test('nothing of a NAR that is not shared is seen by others, until it is shared', async (t) => {
  const { spool, index, blocks } = await blocksBench(t)
  const nar = noise(LEAF_BYTES + 5)
  const plan = await store(spool, nar)
  const small = await store(spool, noise(700))
  index.put(plan, { shared: false, inSpool: true })
  index.put(small, { shared: false, inSpool: true })
  const cids = [plan.root, rawCid(sha256(leafOf(nar, 0))), rawCid(sha256(leafOf(nar, 1))), small.root]
  for (const cid of cids) {
    assert.equal(await blocks.get(cid, 'shared', options), undefined)
    assert.equal(blocks.size(cid, 'shared'), undefined)
    assert.notEqual(await blocks.get(cid, 'all', options), undefined)
    assert.notEqual(blocks.size(cid, 'all'), undefined)
  }
  index.setShared(plan.narHash, true)
  index.setShared(small.narHash, true)
  for (const cid of cids) assert.notEqual(await blocks.get(cid, 'shared', options), undefined)
})

test('an unknown block is a silent miss', async (t) => {
  const { blocks, log } = await blocksBench(t)
  const cid = rawCid(sha256(Buffer.from('nobody has this')))
  assert.equal(await blocks.get(cid, 'all', options), undefined)
  assert.equal(blocks.size(cid, 'all'), undefined)
  assert.deepEqual(log.lines, [])
})

const damages: Record<string, (path: string) => Promise<void>> = {
  'with one bit flipped': async (path) => {
    const file = await open(path, 'r+')
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, LEAF_BYTES + 4000)
    await file.write(Buffer.of((byte[0] ?? 0) ^ 0x10), 0, 1, LEAF_BYTES + 4000)
    await file.close()
  },
  truncated: (path) => truncate(path, LEAF_BYTES + 10),
  'of zeros': (path) => writeFile(path, Buffer.alloc(2 * LEAF_BYTES)),
  'that is a symlink': async (path) => {
    await rm(path)
    await symlink('/dev/zero', path)
  },
  'that is a folder': async (path) => {
    await rm(path)
    await mkdir(path)
  },
  'that is gone': (path) => rm(path),
}
for (const [name, damage] of Object.entries(damages)) {
  test(`of a spool file ${name} no wrong byte leaves: a miss, told in the log`, async (t) => {
    const { dir, spool, index, blocks, log } = await blocksBench(t)
    const nar = noise(2 * LEAF_BYTES)
    const plan = await store(spool, nar)
    index.put(plan, { shared: true, inSpool: true })
    await damage(pathIn(dir, plan.narHash))
    const cid = rawCid(sha256(leafOf(nar, 1)))
    assert.equal(await blocks.get(cid, 'shared', options), undefined)
    const told = log.lines.length
    assert.ok(log.lines.some((line) => line.level === 'warn'))
    assert.equal(await blocks.get(cid, 'shared', options), undefined)
    assert.equal(log.lines.length, told)
  })
}

test('a leaf that is damaged in one NAR is given out of another', async (t) => {
  const { dir, spool, index, blocks, log } = await blocksBench(t)
  const common = noise(LEAF_BYTES)
  const nars = [
    Buffer.concat([common, noise(10, 'one')]),
    Buffer.concat([noise(LEAF_BYTES, 'first'), common, noise(10, 'two')]),
  ]
  for (const nar of nars) index.put(await store(spool, nar), { shared: true, inSpool: true })
  // Each in turn, so that one of the two is the one that is tried first.
  for (const nar of nars) {
    const { narHash } = planOf(nar)
    await writeFile(pathIn(dir, narHash), Buffer.alloc(nar.length))
    const got = await blocks.get(rawCid(sha256(common)), 'shared', options)
    assert.equal(Buffer.compare(got ?? Buffer.alloc(0), common), 0)
    await store(spool, nar)
  }
  assert.equal(log.lines.length, 1)
})

test('a node that was changed in the database does not leave', async (t) => {
  const { spool, db, index, blocks, log } = await blocksBench(t)
  const plan = await store(spool, noise(2 * LEAF_BYTES))
  index.put(plan, { shared: true, inSpool: true })
  db.exec("UPDATE dag_node SET bytes = x'00'")
  assert.equal(await blocks.get(plan.root, 'all', options), undefined)
  assert.equal(log.lines.length, 1)
})

test('an aborted call is an abort, not a miss', async (t) => {
  const { spool, index, blocks, log } = await blocksBench(t)
  const plan = await store(spool, noise(100))
  index.put(plan, { shared: true, inSpool: true })
  await assert.rejects(blocks.get(plan.root, 'all', { signal: AbortSignal.abort() }), { name: 'AbortError' })
  assert.deepEqual(log.lines, [])
})

test(
  'what is only in the Nix store is made from its files, and checked',
  { skip: skipWithoutNix() },
  async (t) => {
    const { spool, index, log } = await blocksBench(t)
    const real = await realStore(t)
    const source = join(real.sources, 'big')
    await writeFile(source, noise(2 * LEAF_BYTES + 100))
    const path = real.add(source)
    const nar = real.dump(path)
    const plan = planOf(nar)
    const store = real.open()
    const blocks = createLocalBlocks({ index, spool, store, log })
    index.put(plan, { shared: true, inSpool: false, storePath: path })
    for (let leaf = 0; leaf * LEAF_BYTES < nar.length; leaf++) {
      const bytes = leafOf(nar, leaf)
      const got = await blocks.get(rawCid(sha256(bytes)), 'shared', options)
      assert.equal(Buffer.compare(got ?? Buffer.alloc(0), bytes), 0)
    }
    assert.deepEqual(log.lines, [])
    // As root the mode of a store file does not hinder; the size stays, the bytes do not.
    const physical = real.physical(path)
    await rm(physical)
    await writeFile(physical, noise(2 * LEAF_BYTES + 100, 'other bytes'))
    assert.equal(await blocks.get(rawCid(sha256(leafOf(nar, 1))), 'shared', options), undefined)
    assert.equal(log.lines.length, 1)
  },
)

describe('a NAR of the Nix store that was hashed before', { skip: skipWithoutNix() }, () => {
  /** A folder of two files, `b` of 4 MiB, each of its leaves hashed once. */
  async function hashed(t: TestContext, chunkBuffers?: () => ChunkBuffers) {
    const { spool, index, log } = await blocksBench(t)
    const real = await realStore(t)
    const source = join(real.sources, 'folder')
    await mkdir(source)
    await writeFile(join(source, 'a'), noise(LEAF_BYTES + 500, 'a'))
    await writeFile(join(source, 'b'), noise(4 * LEAF_BYTES, 'b'))
    const path = real.add(source)
    const nar = real.dump(path)
    const plan = planOf(nar)
    // Files that were made just now are not remembered.
    const clock = () => Date.now() + 60_000
    const deps = { index, spool, store: real.open(), log, clock, ...(chunkBuffers && { chunkBuffers }) }
    const blocks = createLocalBlocks(deps)
    index.put(plan, { shared: true, inSpool: false, storePath: path })
    const known = { narHash: plan.narHash, narSize: nar.length, storePaths: [path] }
    const readFrom = async (start: number, end = nar.length) => {
      const copies: Buffer[] = []
      for await (const bytes of blocks.readProved(known, { start, end }, options))
        copies.push(Buffer.from(bytes))
      return Buffer.concat(copies)
    }
    assert.equal((await readFrom(0)).length, 0)
    const leafCids = [0, 1, 2, 3, 4, 5].map((leaf) => rawCid(sha256(leafOf(nar, leaf))))
    for (const cid of leafCids) assert.ok(await blocks.get(cid, 'shared', options))
    return { nar, blocks, readFrom, leafCids, folder: real.physical(path) }
  }

  it('is read on at any byte', async (t) => {
    const { nar, readFrom } = await hashed(t)
    assert.ok(nar.equals(await readFrom(0)))
    assert.ok(nar.subarray(LEAF_BYTES - 1).equals(await readFrom(LEAF_BYTES - 1)))
    assert.ok(nar.subarray(7, 9).equals(await readFrom(7, 9)))
  })

  it('is read several leaves at a time, as long as they lie in one file', async (t) => {
    const lengths: number[] = []
    const long = (): ChunkBuffers => ({
      size: 3 * LEAF_BYTES,
      next(length) {
        lengths.push(length)
        return Buffer.alloc(length)
      },
    })
    const { nar, readFrom, folder } = await hashed(t, long)
    assert.ok(nar.equals(await readFrom(0)))
    const last = nar.length - 5 * LEAF_BYTES
    assert.deepEqual(lengths.splice(0), [LEAF_BYTES, LEAF_BYTES, 3 * LEAF_BYTES, last])
    assert.ok(nar.subarray(2 * LEAF_BYTES + 7, -1).equals(await readFrom(2 * LEAF_BYTES + 7, nar.length - 1)))
    await rm(join(folder, 'b'))
    await writeFile(join(folder, 'b'), noise(4 * LEAF_BYTES, 'b'))
    assert.equal((await readFrom(2 * LEAF_BYTES)).length, 0)
  })

  it('ends before the first leaf of which a file was written since', async (t) => {
    const { nar, readFrom, folder } = await hashed(t)
    await rm(join(folder, 'b'))
    await writeFile(join(folder, 'b'), noise(4 * LEAF_BYTES, 'b'))
    assert.ok(nar.subarray(0, LEAF_BYTES).equals(await readFrom(0)))
    assert.equal((await readFrom(2 * LEAF_BYTES)).length, 0)
  })

  it('is not known any more once a file beside has another name, which moves the bytes of all', async (t) => {
    const { readFrom, leafCids, blocks, folder } = await hashed(t)
    await rename(join(folder, 'a'), join(folder, 'c'))
    for (let leaf = 0; leaf < leafCids.length; leaf++)
      assert.equal((await readFrom(leaf * LEAF_BYTES)).length, 0)
    for (const cid of leafCids) assert.equal(await blocks.get(cid, 'shared', options), undefined)
  })
})

test('a lent block is right, and its buffer serves again only after it is released', async (t) => {
  const { spool, index, blocks } = await blocksBench(t)
  const nar = noise(3 * LEAF_BYTES)
  index.put(await store(spool, nar), { shared: true, inSpool: true })
  const leaves = [0, 1, 2].map((leaf) => leafOf(nar, leaf))
  const lend = async (leaf: number) => {
    const lent = await blocks.lend(rawCid(sha256(leaves[leaf] ?? noise(1))), 'shared', options)
    assert.ok(lent)
    return lent
  }
  const [first, second] = [await lend(0), await lend(1)]
  assert.notEqual(first.bytes.buffer, second.bytes.buffer)
  assert.equal(Buffer.compare(first.bytes, leaves[0] ?? noise(1)), 0)
  assert.equal(Buffer.compare(second.bytes, leaves[1] ?? noise(1)), 0)
  first.release()
  first.release()
  const third = await lend(2)
  const fourth = await lend(0)
  assert.equal(third.bytes.buffer, first.bytes.buffer)
  assert.notEqual(fourth.bytes.buffer, third.bytes.buffer)
  assert.equal(Buffer.compare(second.bytes, leaves[1] ?? noise(1)), 0)
  assert.equal(Buffer.compare(third.bytes, leaves[2] ?? noise(1)), 0)
})
