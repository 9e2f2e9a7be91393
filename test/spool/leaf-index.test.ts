import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { sha256 } from '../../src/dag/cid.ts'
import { planSmallNar } from '../../src/dag/planner.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { LEAF_BYTES, leafCount, leafSize } from '../../src/dag/profile.ts'
import { createTreeBuilder } from '../../src/dag/tree.ts'
import { LEAF_LOCATIONS_MAX_COUNT } from '../../src/limits.ts'
import { narHashDigest, narHashFromDigest } from '../../src/nix/hash.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { openLeafIndex, type LeafIndex } from '../../src/spool/leaf-index.ts'
import { openDatabase } from '../../src/state/database.ts'
import { tempDir } from '../kit/temp.ts'
import { leafOf, noise, planOf } from './kit.ts'

async function emptyIndex(t: TestContext): Promise<{ db: DatabaseSync; index: LeafIndex }> {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  return { db, index: openLeafIndex(db) }
}

const digestOf = (plan: NarPlan, leaf: number) => plan.leaves.subarray(leaf * 32, leaf * 32 + 32)
const path = (name: string) => parseStorePathBaseName(`${'a'.repeat(32)}-${name}`)
const rowsIn = (db: DatabaseSync, table: string) =>
  db.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n']

test('leaves, nodes and the NAR are found by what was put', async (t) => {
  const { index } = await emptyIndex(t)
  const nar = noise(3 * LEAF_BYTES + 5)
  const plan = planOf(nar)
  index.put(plan, { shared: true, storePath: path('x'), inSpool: true })
  const { narHash, narSize } = plan
  for (let leaf = 0; leaf < 4; leaf++) {
    assert.deepEqual(index.locate(sha256(leafOf(nar, leaf))), [
      {
        narHash,
        narSize,
        index: leaf,
        offset: leaf * LEAF_BYTES,
        size: leafSize(narSize, leaf),
        shared: true,
      },
    ])
  }
  assert.equal(plan.nodes.length, 1)
  for (const node of plan.nodes) {
    const found = index.node(node.cid.multihash.digest)
    assert.equal(found?.shared, true)
    assert.equal(Buffer.compare(found?.bytes ?? Buffer.alloc(0), node.bytes), 0)
  }
  const found = index.nar(narHash)
  assert.equal(found?.root.toString(), plan.root.toString())
  assert.deepEqual(
    { ...found, root: undefined },
    { narSize, root: undefined, shared: true, inSpool: true, storePaths: [path('x')] },
  )
})

test('a NAR of one leaf has no leaf row and is found all the same', async (t) => {
  const { index, db } = await emptyIndex(t)
  for (const size of [1, 96, LEAF_BYTES]) {
    const plan = planOf(noise(size))
    index.put(plan, { shared: false, inSpool: true })
    assert.deepEqual(index.locate(narHashDigest(plan.narHash)), [
      { narHash: plan.narHash, narSize: size, index: 0, offset: 0, size, shared: false },
    ])
    assert.equal(index.nar(plan.narHash)?.root.toString(), plan.root.toString())
  }
  assert.equal(rowsIn(db, 'dag_leaf'), 0)
})

test('the NarHash of a NAR of many leaves is no leaf', async (t) => {
  const { index } = await emptyIndex(t)
  const plan = planOf(noise(LEAF_BYTES + 1))
  index.put(plan, { shared: true, inSpool: true })
  assert.deepEqual(index.locate(narHashDigest(plan.narHash)), [])
  assert.deepEqual(index.locate(plan.root.multihash.digest), [])
  assert.equal(index.node(digestOf(plan, 0)), undefined)
})

test('a leaf that repeats in a NAR is there once, at its first place', async (t) => {
  const { index, db } = await emptyIndex(t)
  const nar = Buffer.concat([noise(LEAF_BYTES), Buffer.alloc(3 * LEAF_BYTES), noise(100)])
  const plan = planOf(nar)
  index.put(plan, { shared: true, inSpool: true })
  assert.equal(rowsIn(db, 'dag_leaf'), 3)
  assert.deepEqual(
    index.locate(digestOf(plan, 2)).map(({ index }) => index),
    [1],
  )
})

test('putting again changes nothing, raises flags and adds store paths', async (t) => {
  const { index, db } = await emptyIndex(t)
  const plan = planOf(noise(2 * LEAF_BYTES))
  const flags = () => {
    const { shared, inSpool, storePaths } = index.nar(plan.narHash) ?? {}
    return { shared, inSpool, storePaths }
  }
  index.put(plan, { shared: false, inSpool: false, storePath: path('b') })
  assert.deepEqual(flags(), { shared: false, inSpool: false, storePaths: [path('b')] })
  index.put(plan, { shared: true, inSpool: false })
  index.put(plan, { shared: false, inSpool: true, storePath: path('a') })
  index.put(plan, { shared: false, inSpool: false, storePath: path('a') })
  assert.deepEqual(flags(), { shared: true, inSpool: true, storePaths: [path('a'), path('b')] })
  assert.equal(rowsIn(db, 'dag_nar'), 1)
  assert.equal(rowsIn(db, 'dag_leaf'), 2)
  index.setShared(plan.narHash, false)
  index.setInSpool(plan.narHash, false)
  assert.deepEqual(flags(), { shared: false, inSpool: false, storePaths: [path('a'), path('b')] })
  assert.equal(index.locate(digestOf(plan, 0))[0]?.shared, false)
})

test('a plan that contradicts itself or what is known is refused whole', async (t) => {
  const { index, db } = await emptyIndex(t)
  const plan = planOf(noise(2 * LEAF_BYTES))
  const where = { shared: true, inSpool: true }
  assert.throws(() => index.put({ ...plan, leaves: plan.leaves.subarray(32) }, where), RangeError)
  assert.equal(rowsIn(db, 'dag_nar'), 0)
  index.put(plan, { shared: false, inSpool: false })
  const other = planOf(noise(2 * LEAF_BYTES, 'other'))
  assert.throws(
    () => index.put({ ...other, narHash: plan.narHash }, where),
    /indexed with 2097152 bytes and root/,
  )
  assert.equal(index.nar(plan.narHash)?.shared, false)
})

test('a node or leaf of several NARs stays until the last of them goes, and is shared while one of them is', async (t) => {
  const { index, db } = await emptyIndex(t)
  const plan = planOf(noise(2 * LEAF_BYTES))
  // The same DAG under another name: what two NARs with a common subtree share.
  const twin: NarPlan = { ...plan, narHash: narHashFromDigest(sha256(Buffer.from('twin'))) }
  index.put(plan, { shared: false, inSpool: true })
  index.put(twin, { shared: true, inSpool: false })
  const root = plan.root.multihash.digest
  assert.equal(index.node(root)?.shared, true)
  assert.deepEqual(
    index.locate(digestOf(plan, 1)).map(({ narHash, shared }) => [narHash, shared]),
    [
      [twin.narHash, true],
      [plan.narHash, false],
    ],
  )
  index.drop(twin.narHash)
  assert.equal(index.node(root)?.shared, false)
  assert.deepEqual(
    index.locate(digestOf(plan, 1)).map(({ narHash }) => narHash),
    [plan.narHash],
  )
  index.drop(plan.narHash)
  index.drop(plan.narHash)
  for (const table of ['dag_nar', 'dag_leaf', 'dag_node', 'dag_path'])
    assert.equal(rowsIn(db, table), 0, table)
})

test('of a leaf that is everywhere a bounded number of places is told, the shared ones first', async (t) => {
  const { index } = await emptyIndex(t)
  const zeros = Buffer.alloc(LEAF_BYTES)
  const plan = planOf(Buffer.concat([zeros, noise(9)]))
  for (let nar = 0; nar < LEAF_LOCATIONS_MAX_COUNT + 5; nar++) {
    const narHash = narHashFromDigest(sha256(Buffer.from(`nar ${nar}`)))
    index.put({ ...plan, narHash }, { shared: nar === LEAF_LOCATIONS_MAX_COUNT + 4, inSpool: true })
  }
  const places = index.locate(sha256(zeros))
  assert.equal(places.length, LEAF_LOCATIONS_MAX_COUNT)
  assert.deepEqual(
    places.map(({ shared }) => shared),
    [true, ...Array.from({ length: LEAF_LOCATIONS_MAX_COUNT - 1 }, () => false)],
  )
})

test('the index answers as a plain model does, through any puts and drops', async (t) => {
  const { db, index } = await emptyIndex(t)
  // Leaves out of an alphabet of four, so that NARs share some and repeat some.
  const leaf = fc.nat(3)
  const nars = fc.array(fc.array(leaf, { minLength: 2, maxLength: 6 }), { minLength: 1, maxLength: 4 })
  const action = fc.record({ nar: fc.nat(3), drop: fc.boolean(), shared: fc.boolean() })
  const digests = [0, 1, 2, 3].map((letter) => sha256(Buffer.from(`leaf ${letter}`)))
  fc.assert(
    fc.property(nars, fc.array(action, { maxLength: 12 }), (nars, actions) => {
      const plans = nars.map((letters, number): NarPlan => {
        const plan = planOf(Buffer.alloc(0))
        const leaves = Buffer.concat(letters.map((letter) => digests[letter] ?? Buffer.alloc(32)))
        const narHash = narHashFromDigest(createHash('sha256').update(`${number}`).update(leaves).digest())
        return { ...plan, narHash, narSize: letters.length * LEAF_BYTES, leaves, nodes: [] }
      })
      const model = new Map<NarPlan, boolean>()
      for (const { nar, drop, shared } of actions) {
        const plan = plans[nar % plans.length]
        assert.ok(plan)
        if (drop) {
          index.drop(plan.narHash)
          model.delete(plan)
        } else {
          index.put(plan, { shared, inSpool: false })
          model.set(plan, (model.get(plan) ?? false) || shared)
        }
      }
      digests.forEach((digest, letter) => {
        const expected = [...model]
          .map(([plan, shared]) => ({
            plan,
            shared,
            first: nars[plans.indexOf(plan)]?.indexOf(letter) ?? -1,
          }))
          .filter(({ first }) => first >= 0)
          .map(({ plan, shared, first }) => `${plan.narHash} ${first} ${shared}`)
        const got = index.locate(digest).map((place) => `${place.narHash} ${place.index} ${place.shared}`)
        assert.deepEqual(got.sort(), expected.sort())
      })
      for (const plan of plans) index.drop(plan.narHash)
      assert.equal(rowsIn(db, 'dag_leaf'), 0)
    }),
    { numRuns: 60 },
  )
})

test('the index of 10 GiB of NARs takes less than 2 MB', async (t) => {
  const { db, index } = await emptyIndex(t)
  const narSize = 10 * 1024 * LEAF_BYTES
  const count = leafCount(narSize)
  // 50 kB of node for each 1,024 leaves, as dag-pb needs.
  const nodes = Array.from({ length: 10 }, (_, number) => {
    const bytes = noise(50_000, `node ${number}`)
    return { cid: planOf(bytes).root, bytes }
  })
  const plan = { ...planOf(noise(10)), narSize, leaves: noise(32 * count), nodes }
  index.put(plan, { shared: true, inSpool: true })
  const pages = Number(db.prepare('PRAGMA page_count').get()?.['page_count'])
  const pageSize = Number(db.prepare('PRAGMA page_size').get()?.['page_size'])
  t.diagnostic(`${pages * pageSize} bytes`)
  assert.ok(pages * pageSize < 2_000_000, `${pages * pageSize} bytes`)
})

test('a read-only connection answers while another one writes', async (t) => {
  const file = join(await tempDir(t), 'state.sqlite')
  const db = openDatabase(file)
  const readOnly = openDatabase(file, { readOnly: true })
  t.after(() => {
    db.close()
    readOnly.close()
  })
  const index = openLeafIndex(db)
  const worker = openLeafIndex(readOnly)
  const plan = planOf(noise(2 * LEAF_BYTES))
  assert.deepEqual(worker.locate(digestOf(plan, 0)), [])
  index.put(plan, { shared: true, inSpool: true })
  assert.equal(worker.locate(digestOf(plan, 0)).length, 1)
  assert.throws(() => worker.drop(plan.narHash), /readonly/)
})

test('a NAR goes with the last place of its bytes', async (t) => {
  const { index, db } = await emptyIndex(t)
  const [one, spooled] = [planOf(noise(3 * LEAF_BYTES)), planOf(noise(2 * LEAF_BYTES, 'x'))]
  for (const plan of [one, spooled]) {
    index.put(plan, { shared: true, storePath: path('x'), inSpool: plan === spooled })
    index.addPath(plan.narHash, path('y'))
  }
  assert.deepEqual(
    index.list(0, 9).map(({ narHash, storePaths }) => [narHash, storePaths]),
    [one, spooled].map(({ narHash }) => [narHash, [path('x'), path('y')]]),
  )
  for (const plan of [one, spooled]) index.removePath(plan.narHash, path('x'))
  assert.deepEqual(index.nar(one.narHash)?.storePaths, [path('y')])
  for (const plan of [one, spooled]) index.removePath(plan.narHash, path('y'))
  assert.equal(index.nar(one.narHash), undefined)
  assert.deepEqual(index.nar(spooled.narHash)?.storePaths, [])
  assert.equal(rowsIn(db, 'dag_leaf'), 2)
  const [last] = index.list(0, 9)
  assert.deepEqual(index.list(last?.id ?? 0, 9), [])
})

test('the index of 100 GiB takes less than 100 MB, here a tenth of both', async (t) => {
  const { index, db } = await emptyIndex(t)
  const tenth = { nars: 5_000, leaves: 10_240 }
  /** As many leaves as the mean of what a store has: one NAR in five is large, and a few of these very large. */
  const leavesOf = (at: number): number => (at % 500 === 0 ? 130 : at % 5 === 0 ? 5 : 1)
  const random = randomSource()
  const paths = { leaves: 0, nodes: 0 }
  for (let at = 0; at < tenth.nars; at++) {
    const count = leavesOf(at)
    const plan = planOfDigests(Array.from({ length: count }, () => random(32)))
    index.put(plan, {
      shared: true,
      storePath: parseStorePathBaseName(`${encodeNix32(random(20))}-a-package-of-usual-length-1.2.3`),
      inSpool: false,
    })
    paths.leaves += count
    paths.nodes += plan.nodes.length
  }
  assert.ok(paths.leaves >= tenth.leaves, String(paths.leaves))
  assert.ok(paths.nodes >= tenth.nars / 5)
  const [pages, size] = ['page_count', 'page_size'].map((name) =>
    Number(db.prepare(`PRAGMA ${name}`).get()?.[name]),
  )
  const bytes = (pages ?? Number.NaN) * (size ?? Number.NaN)
  t.diagnostic(`${bytes} bytes for ${tenth.nars} NARs, ${paths.leaves} leaves`)
  assert.ok(bytes < 10_000_000, String(bytes))
})

/** Bytes that no database can press together, the same each time. */
function randomSource(): (count: number) => Uint8Array {
  let count = 0
  return (length) =>
    createHash('shake256', { outputLength: length })
      .update(String((count += 1)))
      .digest()
}

/** The plan of a NAR with these leaves, the last of them of one byte. */
function planOfDigests(digests: readonly Uint8Array[]): NarPlan {
  const [first = new Uint8Array(32)] = digests
  if (digests.length === 1) return planSmallNar(narHashFromDigest(first), LEAF_BYTES)
  const tree = createTreeBuilder()
  for (const [at, digest] of digests.entries()) tree.addLeaf(digest, at < digests.length - 1 ? LEAF_BYTES : 1)
  const narSize = (digests.length - 1) * LEAF_BYTES + 1
  return {
    narHash: narHashFromDigest(sha256(first)),
    narSize,
    leaves: Buffer.concat(digests),
    ...tree.finish(),
  }
}
