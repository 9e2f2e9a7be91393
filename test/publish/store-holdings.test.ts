import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { rawCid } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { narHashDigest } from '../../src/nix/hash.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openAskedPaths } from '../../src/publish/asked-paths.ts'
import type { StoreNar } from '../../src/publish/first-read.ts'
import { createFirstReads } from '../../src/publish/first-reads.ts'
import { createHoldings } from '../../src/publish/holdings.ts'
import { createStoreHoldings } from '../../src/publish/store-holdings.ts'
import { BlockUnavailableError } from '../../src/substitute/errors.ts'
import { sampleKey } from '../nix/sample.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { engine, flipped, narInfoOf, pathNamed, signed, signer, testPolicy } from '../substitute/kit.ts'
import { sharePolicy } from './kit.ts'
import { memoryStore } from './memory-store.ts'

const small = noise(50_000)
const large = noise(2 * LEAF_BYTES + 9, 'large')
const stranger = sampleKey('other-1', 5)

/** A store with these NARs, none of which was asked for before, and what others may have of it under the key `signer-1`. */
async function sharing(t: TestContext) {
  const store = memoryStore()
  const policy = sharePolicy()
  const node = await engine(t, { store })
  const { db, index, table, blocks, log } = node
  const wanted: string[] = []
  /** As at a start: nothing is in memory, all is in the database. */
  const start = () => {
    const asked = openAskedPaths({ db, bestEffort: (write) => (write(), true) })
    const proved = ({ narHash, storePath }: StoreNar, plan: Parameters<typeof index.put>[0]): void => {
      index.put(plan, { shared: true, storePath, inSpool: false })
      asked.forget(narHash)
    }
    const reads = createFirstReads({ store, proved, clock: Date.now, log })
    const inStore = createStoreHoldings({ policy, store, index, asked, reads })
    return createHoldings({
      policy,
      table,
      index,
      blocks,
      inStore,
      wanted: (nar) => wanted.push(nar.storePath),
    })
  }
  const add = (bytes: Uint8Array, name: string, keys: readonly SecretKey[] = [signer]): NarInfo => {
    const info = signed({ ...narInfoOf(planOf(bytes), name), signatures: [] }, ...keys)
    store.add(info, bytes)
    return info
  }
  return { ...node, store, start, add, wanted, holdings: start() }
}

const rangeOf = (bytes: Uint8Array) => ({ start: 0, end: bytes.length })

describe('the store, to others', () => {
  it('has a narinfo at once, without a look at any file', async (t) => {
    const { holdings, store, add } = await sharing(t)
    const info = add(large, 'large-1.0')
    const told = holdings.narInfo(hashPartOf(info.storePath))
    assert.equal(told?.narHash, info.narHash)
    assert.deepEqual(told?.references, info.references)
    assert.deepEqual(told?.signatures, info.signatures)
    assert.equal(told?.cid, undefined)
    assert.deepEqual(store.reads, [])
  })

  it('tells the CID of a small NAR at once, and gives its block', async (t) => {
    const { holdings, blocks, store, add } = await sharing(t)
    const info = add(small, 'small-1.0')
    const cid = rawCid(narHashDigest(info.narHash))
    assert.equal(await blocks.get(cid, 'shared', options), undefined)
    assert.equal(holdings.narInfo(hashPartOf(info.storePath))?.cid, cid.toString())
    assert.deepEqual(store.reads, [])
    assert.deepEqual(await blocks.get(cid, 'shared', options), small)
    assert.deepEqual(await collect(holdings.openNar(info.narHash)!.read(rangeOf(small), options)), small)
  })

  for (const [title, bytes] of [
    ['small', small],
    ['large', large],
  ] as const) {
    it(`gives the bytes of a ${title} NAR that was asked for, after a restart too`, async (t) => {
      const { holdings, start, add } = await sharing(t)
      const info = add(bytes, 'package')
      assert.equal(holdings.openNar(info.narHash), undefined)
      holdings.narInfo(hashPartOf(info.storePath))
      const opened = start().openNar(info.narHash)
      assert.ok(opened)
      assert.equal(opened.narSize, bytes.length)
      assert.ok((await collect(opened.read(rangeOf(bytes), options))).equals(bytes))
    })
  }

  it('tells the CID of a large NAR once it went out, and gives it leaf by leaf from then on', async (t) => {
    const { holdings, blocks, index, add, wanted } = await sharing(t)
    const info = add(large, 'large-1.0')
    const hashPart = hashPartOf(info.storePath)
    holdings.narInfo(hashPart)
    assert.deepEqual(wanted, [info.storePath])
    await collect(holdings.openNar(info.narHash)!.read(rangeOf(large), options))
    const { root } = planOf(large)
    assert.equal(holdings.narInfo(hashPart)?.cid, root.toString())
    assert.deepEqual(wanted, [info.storePath])
    assert.equal(holdings.narSizeOf(root), large.length)
    assert.ok(await blocks.get(root, 'shared', options))
    assert.deepEqual(index.nar(info.narHash)?.storePaths, [info.storePath])
    const range = { start: LEAF_BYTES - 5, end: LEAF_BYTES + 5 }
    const bytes = await collect(holdings.openNar(info.narHash)!.read(range, options))
    assert.ok(bytes.equals(large.subarray(range.start, range.end)))
  })

  for (const [title, keys] of [
    ['unsigned', []],
    ['signed by somebody else', [stranger]],
  ] as const) {
    it(`has nothing that is ${title}, by any route`, async (t) => {
      const { holdings, blocks, index, add } = await sharing(t)
      for (const bytes of [small, large]) {
        const info = add(bytes, 'private', keys)
        assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
        assert.equal(holdings.openNar(info.narHash), undefined)
        const plan = planOf(bytes)
        // Also where this machine's own Nix was given it.
        index.put(plan, { shared: false, storePath: info.storePath, inSpool: false })
        assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
        assert.equal(holdings.openNar(info.narHash), undefined)
        assert.equal(holdings.narSizeOf(plan.root), undefined)
        assert.equal(await blocks.get(plan.root, 'shared', options), undefined)
      }
    })
  }

  it('does not tell an unsigned path that has the NAR of a signed one', async (t) => {
    const { holdings, add } = await sharing(t)
    const open = add(small, 'open')
    const secret = add(small, 'secret', [])
    holdings.narInfo(hashPartOf(open.storePath))
    assert.equal(holdings.narInfo(hashPartOf(secret.storePath)), undefined)
    assert.ok(holdings.openNar(open.narHash))
  })

  it('shares what this machine had for itself alone, as soon as it is asked for by a share key', async (t) => {
    const { holdings, index, add } = await sharing(t)
    const info = add(large, 'large-1.0')
    index.put(planOf(large), { shared: false, inSpool: false })
    assert.equal(holdings.openNar(info.narHash), undefined)
    assert.equal(holdings.narInfo(hashPartOf(info.storePath))?.cid, planOf(large).root.toString())
    assert.ok((await collect(holdings.openNar(info.narHash)!.read(rangeOf(large), options))).equals(large))
  })

  for (const [title, bytes] of [
    ['small', small],
    ['large', large],
  ] as const) {
    it(`has no ${title} path that Nix collected, whether it was read before or not`, async (t) => {
      const { holdings, table, store, add } = await sharing(t)
      const [read, unread] = [add(bytes, 'read'), add(flipped(bytes), 'unread')]
      for (const info of [read, unread]) holdings.narInfo(hashPartOf(info.storePath))
      await collect(holdings.openNar(read.narHash)!.read(rangeOf(bytes), options))
      table.put(testPolicy.verify(read))
      for (const info of [read, unread]) {
        store.collect(info.storePath)
        assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
        assert.equal(holdings.openNar(info.narHash), undefined)
      }
    })
    it(`gives no whole ${title} path that somebody wrote to, and then does not tell it any more`, async (t) => {
      const { holdings, store, add } = await sharing(t)
      const [read, unread] = [add(bytes, 'read'), add(flipped(bytes), 'unread')]
      for (const info of [read, unread]) holdings.narInfo(hashPartOf(info.storePath))
      await collect(holdings.openNar(read.narHash)!.read(rangeOf(bytes), options))
      for (const info of [read, unread]) {
        store.damage(info.storePath, noise(bytes.length, 'damage'))
        const opened = holdings.openNar(info.narHash)!
        await assert.rejects(collect(opened.read(rangeOf(bytes), options)), BlockUnavailableError)
        assert.equal(holdings.narInfo(hashPartOf(info.storePath)), undefined)
        assert.equal(holdings.openNar(info.narHash), undefined)
      }
    })
  }

  it('knows a NAR by another path when the first is gone', async (t) => {
    const { holdings, store, add } = await sharing(t)
    const [first, second] = [add(large, 'first'), add(large, 'second')]
    for (const info of [first, second]) holdings.narInfo(hashPartOf(info.storePath))
    store.collect(first.storePath)
    assert.ok((await collect(holdings.openNar(second.narHash)!.read(rangeOf(large), options))).equals(large))
    assert.equal(holdings.narInfo(hashPartOf(pathNamed('third'))), undefined)
  })
})

it('what the disk does not take is known until the end of the process', async (t) => {
  const { db } = await engine(t, {})
  const asked = openAskedPaths({ db, bestEffort: () => false })
  const { narHash } = narInfoOf(planOf(large))
  const path = pathNamed('large-1.0')
  asked.remember(narHash, path)
  assert.deepEqual(asked.of(narHash), [path])
  asked.forget(narHash)
  assert.deepEqual(asked.of(narHash), [])
})
