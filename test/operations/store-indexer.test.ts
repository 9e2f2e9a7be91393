import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { INDEXER_LIST_COUNT, INDEXER_LOOK_MS, INDEXER_REVIEW_MS } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { createStoreIndexer } from '../../src/operations/store-indexer.ts'
import { openAskedPaths } from '../../src/publish/asked-paths.ts'
import { createFirstReads } from '../../src/publish/first-reads.ts'
import { createStoreHoldings } from '../../src/publish/store-holdings.ts'
import { sharePolicy } from '../publish/kit.ts'
import { memoryStore } from '../publish/memory-store.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { engine, narInfoOf } from '../substitute/kit.ts'

const RATE = 2 * LEAF_BYTES
const large = (seed: string): Buffer => noise(3 * LEAF_BYTES + 1, seed)

/** An indexer over a store in memory, with a clock that only its own pauses move. */
async function indexing(t: TestContext) {
  const store = memoryStore()
  const policy = sharePolicy()
  const node = await engine(t, { store })
  const { db, index, log } = node
  const time = { now: 1_000_000 }
  const clock = (): number => time.now
  const state = { busy: 0, wrote: 0 }
  const asked = openAskedPaths({ db, bestEffort: (write) => (write(), true) })
  const reads = createFirstReads({
    store,
    proved: ({ storePath }, plan) => index.put(plan, { shared: true, storePath, inSpool: false }),
    clock,
    log,
  })
  const inStore = createStoreHoldings({ policy, store, index, asked, reads })
  const start = () =>
    createStoreIndexer(
      {
        store,
        index,
        inStore,
        isBusy: () => state.busy-- > 0,
        wrote: () => (state.wrote += 1),
        clock,
        sleep: async (ms) => {
          time.now += ms
        },
      },
      { bytesPerSecond: RATE },
    )
  const add = (bytes: Uint8Array, name: string): NarInfo => {
    const info = narInfoOf(planOf(bytes), name)
    store.add(info, bytes)
    return info
  }
  const rootOf = (info: NarInfo): string | undefined => index.nar(info.narHash)?.root.toString()
  return { ...node, store, start, add, rootOf, time, state, indexer: start() }
}

/** Turn after turn until there is nothing to do. */
async function settle(indexer: ReturnType<typeof createStoreIndexer>): Promise<void> {
  while ((await indexer.turn(options)) === 0);
}

describe('the store indexer', () => {
  it('enters small NARs without reading them, and large ones by one read each', async (t) => {
    const { indexer, store, add, rootOf, index, state } = await indexing(t)
    const small = Array.from({ length: INDEXER_LIST_COUNT + 5 }, (_, at) =>
      add(noise(100 + at), `small-${at}`),
    )
    const [one, two] = [add(large('one'), 'one'), add(large('two'), 'two')]
    await settle(indexer)
    for (const info of small) assert.equal(index.nar(info.narHash)?.shared, true)
    assert.equal(rootOf(one), planOf(large('one')).root.toString())
    assert.equal(rootOf(two), planOf(large('two')).root.toString())
    assert.equal(store.reads.length, 8)
    assert.deepEqual(indexer.status(), {
      indexed: small.length + 2,
      indexed_bytes: [...small, one, two].reduce((sum, { narSize }) => sum + narSize, 0),
      to_go: 0,
      to_go_bytes: 0,
    })
    assert.equal(state.wrote, 1)
  })

  it('leaves alone what no share key signed', async (t) => {
    const { indexer, store, add, rootOf } = await indexing(t)
    const signed = add(large('one'), 'one')
    store.add({ ...narInfoOf(planOf(large('two')), 'two'), signatures: [] }, large('two'))
    const other = narInfoOf(planOf(large('three')), 'three')
    store.add({ ...other, signatures: narInfoOf(planOf(noise(99))).signatures }, large('three'))
    await settle(indexer)
    assert.equal(rootOf(other), undefined)
    assert.deepEqual(new Set(store.reads.map(({ path }) => path)), new Set([signed.storePath]))
    assert.equal(indexer.status().indexed, 1)
  })

  it('reads no faster than it may, and not while others have something to do', async (t) => {
    const { indexer, time, add, state } = await indexing(t)
    add(large('one'), 'one')
    const begun = time.now
    await settle(indexer)
    assert.equal(time.now - begun, (4 * LEAF_BYTES * 1000) / RATE)
    add(large('two'), 'two')
    state.busy = 50
    const paused = time.now
    await settle(indexer)
    assert.ok(time.now - paused > (4 * LEAF_BYTES * 1000) / RATE)
  })

  it('says what is to go while it reads', async (t) => {
    const { indexer, time, add } = await indexing(t)
    assert.equal(indexer.status().to_go, undefined)
    for (let at = 0; at < 5; at++) add(large(String(at)), `large-${at}`)
    // Longer than until its next look.
    assert.equal(await indexer.turn(options), 0)
    const { to_go: toGo = 0, to_go_bytes: bytes } = indexer.status()
    assert.ok(toGo > 0 && toGo < 5, String(toGo))
    assert.equal(bytes, toGo * (3 * LEAF_BYTES + 1))
    assert.ok(time.now > INDEXER_LOOK_MS)
  })

  it('goes on after a restart, and reads nothing again', async (t) => {
    const { indexer, store, start, add } = await indexing(t)
    for (let at = 0; at < 5; at++) add(large(String(at)), `large-${at}`)
    await indexer.turn(options)
    const before = store.reads.length
    assert.ok(before < 20)
    const next = start()
    await settle(next)
    assert.equal(store.reads.length, 20)
    assert.equal(next.status().indexed, 5)
  })

  it('takes first what somebody asked for', async (t) => {
    const { indexer, store, add } = await indexing(t)
    const [first, second] = [add(large('one'), 'one'), add(large('two'), 'two')]
    indexer.want(second)
    await settle(indexer)
    const order = [...new Set(store.reads.map(({ path }) => path))]
    assert.deepEqual(order, [second.storePath, first.storePath])
    assert.equal(store.reads.length, 8)
  })

  it('looks at new paths alone, and at all of them after a while', async (t) => {
    const { indexer, store, time, add, rootOf, index } = await indexing(t)
    const [gone, kept] = [add(large('one'), 'one'), add(noise(500), 'two')]
    await settle(indexer)
    time.now += INDEXER_LOOK_MS
    store.collect(gone.storePath)
    const fresh = add(large('three'), 'three')
    await settle(indexer)
    assert.equal(rootOf(fresh), planOf(large('three')).root.toString())
    assert.ok(index.nar(gone.narHash))
    time.now += INDEXER_REVIEW_MS
    await settle(indexer)
    assert.equal(index.nar(gone.narHash), undefined)
    assert.ok(index.nar(kept.narHash))
    assert.equal(indexer.status().indexed, 2)
  })

  it('does nothing while the store stays as it is', async (t) => {
    const { indexer, store, time, add, state } = await indexing(t)
    add(large('one'), 'one')
    await settle(indexer)
    const list = t.mock.method(store.registered, 'after')
    for (let turn = 0; turn < 3; turn++) {
      time.now += INDEXER_REVIEW_MS
      assert.equal(await indexer.turn(options), INDEXER_LOOK_MS)
    }
    assert.equal(list.mock.callCount(), 0)
    assert.equal(state.wrote, 1)
  })

  it('shares again what a change of the keys took back, without reading it', async (t) => {
    const { store, start, add, index } = await indexing(t)
    const info = add(large('one'), 'one')
    await settle(start())
    const reads = store.reads.length
    index.setShared(info.narHash, false)
    await settle(start())
    assert.equal(index.nar(info.narHash)?.shared, true)
    assert.equal(store.reads.length, reads)
  })

  it('passes over a path whose bytes are not what Nix registered', async (t) => {
    const { indexer, store, add, rootOf, log } = await indexing(t)
    const [bad, good] = [add(large('one'), 'one'), add(large('two'), 'two')]
    store.damage(bad.storePath, large('other'))
    await settle(indexer)
    assert.equal(rootOf(bad), undefined)
    assert.equal(rootOf(good), planOf(large('two')).root.toString())
    assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1)
    assert.equal(indexer.status().to_go, 0)
  })
})
