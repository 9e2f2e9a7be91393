import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { PublishError } from '../../src/publish/errors.ts'
import type { Candidate } from '../../src/publish/candidates.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { sampleKey } from '../nix/sample.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { collect, noise, options, pathIn, planOf, store as spooled } from '../spool/kit.ts'
import { diesAt, flipped, MIB, narInfoOf, pathNamed, signed, signer, stream } from '../substitute/kit.ts'
import type { TestStream } from '../substitute/kit.ts'
import { narOf, publishing } from './kit.ts'

const nar = narOf(noise(3 * MIB))
const plan = planOf(nar)
const info = narInfoOf(plan)

const fromCache = (told: NarInfo, source: TestStream): Candidate => ({
  info: told,
  inStore: false,
  stream: source,
})
const inStore = (told: NarInfo): Candidate => ({ info: told, inStore: true, stream: undefined })

function storeWith(files: Map<string, Uint8Array>) {
  const store: LocalStore & { reads: number } = {
    reads: 0,
    storeDir: STORE_DIR,
    pathInfo: () => undefined,
    closure: () => [],
    registered: { byId: () => undefined, after: () => ({ paths: [], lastId: 0 }), changeMark: () => '' },
    async *readNar(path, range) {
      store.reads += 1
      const bytes = files.get(path) ?? new Uint8Array()
      yield bytes.subarray(range?.start, range?.end)
    },
    readNarInto: async () => assert.fail('publishing reads a NAR from its beginning to its end'),
    openNar: async () => assert.fail('publishing reads a NAR from its beginning to its end'),
    close() {},
  }
  return store
}

describe('publish from a cache', () => {
  it('fetches, checks, spools and indexes the NAR, and appends its mapping', async (t) => {
    const node = await publishing(t)
    const items = await node.publish([fromCache(info, stream('cache', nar))])
    const cid = plan.root.toString()
    assert.deepEqual(items, [{ path: info.storePath, narSize: nar.length, outcome: 'published', cid }])
    assert.equal(node.feed.size, 1)
    assert.equal(node.index.nar(info.narHash)?.shared, true)
    assert.equal(node.table.byHashPart(hashPartOf(info.storePath))?.cid, cid)
    assert.deepEqual(
      await collect(node.spool.read(info.narHash, { start: 0, end: nar.length }, options)),
      nar,
    )
  })
  it('adds nothing the second time, and fetches nothing', async (t) => {
    const node = await publishing(t)
    const cache = stream('cache', nar)
    await node.publish([fromCache(info, cache)])
    await node.publish([fromCache(info, cache)])
    assert.deepEqual(cache.opened, [0])
    assert.equal(node.feed.size, 1)
  })
  const wrong: Record<string, Uint8Array> = {
    'a bit flipped in a file': flipped(nar),
    'a byte less': nar.subarray(0, -1),
    'a byte more': Buffer.concat([nar, Uint8Array.of(0)]),
    nothing: new Uint8Array(),
    'another NAR': narOf(noise(3 * MIB, 'other')),
  }
  for (const [title, bytes] of Object.entries(wrong)) {
    it(`refuses ${title}, and keeps nothing of it`, async (t) => {
      const node = await publishing(t)
      await assert.rejects(node.publish([fromCache(info, stream('cache', bytes))]), (error) => {
        assert.ok(error instanceof PublishError)
        assert.match(error.message, /package-1\.0/)
        return true
      })
      assert.equal(node.feed.size, 0)
      assert.equal(node.index.nar(info.narHash), undefined)
      assert.deepEqual(node.spool.totals(), { count: 0, bytes: 0 })
      assert.equal(existsSync(pathIn(node.dir, info.narHash, true)), false)
    })
  }
  const noNar: Record<string, Buffer> = {
    'no NAR at all': noise(MIB),
    'a NAR with a byte after it': Buffer.concat([nar, Buffer.alloc(8)]),
    'a NAR with padding that is not zero': (() => {
      const bytes = narOf(Uint8Array.of(1, 2, 3))
      const at = bytes.indexOf(Uint8Array.of(1, 2, 3)) + 4
      bytes[at] = 1
      return bytes
    })(),
  }
  for (const [title, bytes] of Object.entries(noNar)) {
    it(`refuses ${title}, though its hash is signed`, async (t) => {
      const node = await publishing(t)
      const told = narInfoOf(planOf(bytes))
      await assert.rejects(node.publish([fromCache(told, stream('cache', bytes))]), /bad NAR at byte/)
      assert.deepEqual([node.feed.size, node.spool.totals().count], [0, 0])
    })
  }
  it('publishes what came before a path that fails, and nothing after it', async (t) => {
    const node = await publishing(t)
    const first = narOf(noise(1_000, 'first'))
    const last = narOf(noise(1_000, 'last'))
    const seen: string[] = []
    await assert.rejects(async () => {
      const candidates = [
        fromCache(narInfoOf(planOf(first), 'first-1'), stream('cache', first)),
        fromCache(info, stream('cache', flipped(nar))),
        fromCache(narInfoOf(planOf(last), 'last-1'), stream('cache', last)),
      ]
      const run = node.publisher.publish(candidates, { feed: node.feed, dryRun: false }, options)
      for await (const item of run) seen.push(item.outcome)
    }, PublishError)
    assert.deepEqual(seen, ['published'])
    assert.equal(node.feed.size, 1)
  })
  it('has in the feed what it told, though nobody listens any more', async (t) => {
    const node = await publishing(t)
    const candidates = [fromCache(info, stream('cache', nar)), fromCache(info, stream('cache', nar))]
    for await (const _ of node.publisher.publish(candidates, { feed: node.feed, dryRun: false }, options))
      break
    assert.equal(node.feed.size, 1)
  })
})

describe('publish and a kept part', () => {
  async function partOf(node: Awaited<ReturnType<typeof publishing>>, bytes: Uint8Array): Promise<void> {
    const file = await node.spool.create(info)
    await file.append(bytes)
    await file.abandon(new Error('crash'), true)
  }
  it('goes on where it ends', async (t) => {
    const node = await publishing(t)
    await partOf(node, nar.subarray(0, 2 * MIB))
    const cache = stream('cache', nar)
    assert.equal((await node.publish([fromCache(info, cache)]))[0]?.outcome, 'published')
    assert.deepEqual(cache.opened, [2 * MIB])
  })
  it('begins anew when it has rotted', async (t) => {
    const node = await publishing(t)
    await partOf(node, flipped(nar.subarray(0, 2 * MIB)))
    const cache = stream('cache', nar)
    assert.equal((await node.publish([fromCache(info, cache)]))[0]?.outcome, 'published')
    assert.deepEqual(cache.opened, [2 * MIB, 0])
    assert.deepEqual(
      await collect(node.spool.read(info.narHash, { start: 0, end: nar.length }, options)),
      nar,
    )
  })
  it('is told when the cache breaks off', async (t) => {
    const node = await publishing(t)
    const cache = stream('cache', nar, diesAt('cache', MIB))
    await assert.rejects(node.publish([fromCache(info, cache)]), /connection reset/)
    assert.equal(node.feed.size, 0)
  })
})

describe('publish from here', () => {
  it('plans a store path and copies nothing', async (t) => {
    const node = await publishing(t, storeWith(new Map([[info.storePath, nar]])))
    const [item] = await node.publish([inStore(info)])
    assert.equal(item?.cid, plan.root.toString())
    assert.deepEqual(node.index.nar(info.narHash)?.storePaths, [info.storePath])
    assert.equal(node.spool.totals().count, 0)
  })
  it('refuses a store path whose files are not what was signed', async (t) => {
    const node = await publishing(t, storeWith(new Map([[info.storePath, flipped(nar)]])))
    await assert.rejects(node.publish([inStore(info)]), /expected a NAR of .* with hash/)
    assert.deepEqual([node.feed.size, node.index.nar(info.narHash)], [0, undefined])
  })
  it('takes what is in the spool', async (t) => {
    const node = await publishing(t)
    await spooled(node.spool, nar)
    const cache = stream('cache', nar)
    assert.equal((await node.publish([fromCache(info, cache)]))[0]?.outcome, 'published')
    assert.deepEqual(cache.opened, [])
  })
})

describe('publish leaves out', () => {
  const skipped: Record<string, NarInfo> = {
    'what nobody signed': { ...info, signatures: [] },
    'what a stranger signed': signed({ ...info, signatures: [] }, sampleKey('stranger-1', 3)),
    'what was changed after it was signed': { ...info, narSize: info.narSize + 1 },
  }
  for (const [title, told] of Object.entries(skipped)) {
    it(`${title}, without a look at its bytes`, async (t) => {
      const store = storeWith(new Map([[info.storePath, nar]]))
      const cache = stream('cache', nar)
      const node = await publishing(t, store)
      for (const item of await node.publish([inStore(told), fromCache(told, cache)])) {
        assert.equal(item.outcome, 'skipped')
        assert.match(item.reason ?? '', /no signature by a share key \(signer-1\)/)
      }
      assert.deepEqual([store.reads, cache.opened, node.feed.size], [0, [], 0])
      assert.equal(node.table.byHashPart(hashPartOf(told.storePath)), undefined)
    })
  }
  it('what the deny list names, though a share key signed it', async (t) => {
    const node = await publishing(t, undefined, ['package-*'])
    const [item] = await node.publish([fromCache(info, stream('cache', nar))])
    assert.deepEqual([item?.outcome, item?.reason], ['skipped', 'share.deny has package-*'])
    assert.equal(node.feed.size, 0)
  })
  it('what does not fit into an entry, and goes on', async (t) => {
    const references = Array.from({ length: 1_000 }, (_, i) => pathNamed(`${'reference-'.repeat(4)}${i}`))
    const small = narOf(noise(1_000))
    const large = signed({ ...narInfoOf(planOf(small), 'large-1'), references, signatures: [] }, signer)
    const node = await publishing(t)
    const items = await node.publish([
      fromCache(large, stream('cache', small)),
      fromCache(info, stream('cache', nar)),
    ])
    assert.deepEqual(
      items.map(({ outcome }) => outcome),
      ['skipped', 'published'],
    )
    assert.match(items[0]?.reason ?? '', /65,?535/)
    assert.equal(node.feed.size, 1)
    assert.notEqual(node.index.nar(large.narHash)?.shared, true)
  })
  it('everything on a dry run, and reads nothing', async (t) => {
    const store = storeWith(new Map([[info.storePath, nar]]))
    const cache = stream('cache', nar)
    const node = await publishing(t, store)
    const items = await node.publish([inStore(info), fromCache(info, cache)], true)
    assert.deepEqual(
      items.map(({ outcome }) => outcome),
      ['would-publish', 'would-publish'],
    )
    assert.deepEqual([store.reads, cache.opened, node.feed.size], [0, [], 0])
    assert.equal(node.index.nar(info.narHash), undefined)
  })
})
