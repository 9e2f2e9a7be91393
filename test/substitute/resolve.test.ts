import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { RESOLVE_DEADLINE_MS } from '../../src/limits.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { COST, SourceRestingError } from '../../src/source.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { createResolver } from '../../src/substitute/resolve.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import {
  narInfoOf,
  pathNamed,
  signed,
  signer,
  silence,
  stream,
  tells,
  testPolicy,
  timersAlive,
} from './kit.ts'

const bytes = noise(3_000)
const plan = planOf(bytes)
const info = narInfoOf(plan)
const hashPart = hashPartOf(info.storePath)
const lie = { ...info, narSize: info.narSize + 1 }

async function resolving(t: TestContext, sources: NarInfoSource[]) {
  const db = openDatabase(`${await tempDir(t)}/state.sqlite`)
  t.after(() => db.close())
  let now = Date.now()
  const log = recordingLog()
  /** As after a restart, with the keys of the configuration. */
  const restart = (policy = testPolicy, now_ = sources, storeDir = STORE_DIR) => {
    const table = createNarInfoTable({ db, clock: () => now, log }, { storeDir })
    return { table, resolver: createResolver({ policy, table, sources: now_, log }) }
  }
  return { ...restart(), restart, log, pass: (ms: number) => (now += ms) }
}

describe('resolve: which candidate', () => {
  it('takes the first good one though a liar answers before it, and tells of the liar', async (t) => {
    const liar = tells('liar', COST.neighbour, { info: lie })
    const slow = tells('slow', COST.upstream, async () => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      return { info }
    })
    const { resolver, log } = await resolving(t, [liar, slow])
    const found = await resolver.byHashPart(hashPart, options)
    assert.equal(found?.narSize, info.narSize)
    assert.deepEqual(
      log.lines.map(({ level, fields }) => [level, fields]),
      [['warn', { source: 'liar', hashPart }]],
    )
  })
  it('does not take a genuine narinfo of another path', async (t) => {
    const other = signed(narInfoOf(plan, 'other-1.0'))
    const { resolver } = await resolving(t, [tells('a', COST.upstream, async () => ({ info: other }))])
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
  })
  it('asks what is local first, and nobody else when it knows', async (t) => {
    const local = tells('feed', COST.local, { info })
    const remote = tells('far', COST.upstream, { info })
    const { resolver } = await resolving(t, [remote, local])
    assert.ok(await resolver.byHashPart(hashPart, options))
    assert.deepEqual([local.asked, remote.asked], [1, 0])
  })
  it('goes on to the network when what is local fails', async (t) => {
    const local = tells('feed', COST.local, () => Promise.reject(new Error('torn page')))
    const { resolver, log } = await resolving(t, [local, tells('far', COST.upstream, { info })])
    assert.ok(await resolver.byHashPart(hashPart, options))
    assert.match(log.lines[0]?.message ?? '', /narinfo not had from feed: torn page/)
  })
  it('is a miss when nobody has it, and asks again the next time', async (t) => {
    const remote = tells('far', COST.upstream, async () => undefined)
    const { resolver, log } = await resolving(t, [remote])
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
    assert.equal(remote.asked, 2)
    assert.deepEqual(log.lines, [])
  })
  it('is a miss without any source', async (t) => {
    const { resolver } = await resolving(t, [])
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
  })
})

describe('resolve: with sources that do not answer', () => {
  const resting = (id: string) =>
    tells(id, COST.upstream, () => Promise.reject(new SourceRestingError(id, 'left alone')))

  it('gives the good answer while another source is still silent', async (t) => {
    let heard: AbortSignal | undefined
    const silent = tells('silent', COST.upstream, (signal) => silence((heard = signal)))
    const { resolver } = await resolving(t, [silent, tells('good', COST.upstream, async () => ({ info }))])
    assert.equal((await resolver.byHashPart(hashPart, options))?.narHash, info.narHash)
    assert.equal(heard?.aborted, false)
  })
  it('is a miss as soon as the last source has given up, without a word about those left alone', async (t) => {
    const empty = tells('empty', COST.upstream, async () => undefined)
    const { resolver, log } = await resolving(t, [resting('a'), empty, resting('b')])
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
    assert.deepEqual(log.lines, [])
  })
  it('does not remember the miss: who was left alone is asked the next time', async (t) => {
    let down = true
    const back = tells('back', COST.upstream, async () => {
      if (down) throw new SourceRestingError('back', 'left alone')
      return { info }
    })
    const { resolver } = await resolving(t, [back])
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
    down = false
    assert.ok(await resolver.byHashPart(hashPart, options))
  })
  it('asks each source once for 256 who ask together for what nobody has', async (t) => {
    const empty = tells('empty', COST.upstream, async () => undefined)
    const { resolver } = await resolving(t, [empty, resting('a')])
    await Promise.all(Array.from({ length: 256 }, () => resolver.byHashPart(hashPart, options)))
    assert.equal(empty.asked, 1)
  })
  it('offers what the others have when one is asked in vain', async (t) => {
    const deaf = tells('deaf', COST.upstream, () => new Promise(() => {}))
    const good = tells('good', COST.upstream, { info, stream: stream('good', bytes) })
    const { resolver } = await resolving(t, [deaf, good])
    const found = await resolver.byHashPart(hashPart, options)
    assert.ok(found)
    const alive = setInterval(() => {}, 1_000)
    t.after(() => clearInterval(alive))
    assert.equal((await resolver.askAll(found, options)).streams.length, 1)
  })
})

describe('resolve: many at once', () => {
  it('asks each source once for 256 who ask together', async (t) => {
    const sources = ['a', 'b'].map((id) => tells(id, COST.upstream, async () => ({ info })))
    const { resolver } = await resolving(t, sources)
    const found = await Promise.all(Array.from({ length: 256 }, () => resolver.byHashPart(hashPart, options)))
    assert.deepEqual(new Set(found.map((one) => one?.narHash)), new Set([info.narHash]))
    assert.deepEqual(
      sources.map((source) => source.asked),
      [1, 1],
    )
  })
  it('goes on for the others when the first one leaves', async (t) => {
    let answer: () => void = () => {}
    const asked = new Promise<void>((resolve) => (answer = resolve))
    const source = tells('a', COST.upstream, async () => {
      await asked
      return { info }
    })
    const { resolver } = await resolving(t, [source])
    const gone = new AbortController()
    const first = resolver.byHashPart(hashPart, { signal: gone.signal })
    const second = resolver.byHashPart(hashPart, options)
    gone.abort(new Error('client gone'))
    await assert.rejects(first, /client gone/)
    answer()
    assert.equal((await second)?.narHash, info.narHash)
    assert.equal(source.asked, 1)
  })
  it('is a miss at the deadline, whatever the sources wait for', async (t) => {
    const silent = tells('silent', COST.upstream, (signal) => silence(signal))
    const deaf = tells('deaf', COST.upstream, () => new Promise(() => {}))
    const { resolver, log } = await resolving(t, [silent, deaf])
    const alive = setInterval(() => {}, 1_000)
    t.after(() => clearInterval(alive))
    const before = Date.now()
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
    assert.ok(Date.now() - before >= RESOLVE_DEADLINE_MS - 50)
    assert.deepEqual(log.lines, [])
    clearInterval(alive)
    assert.equal(timersAlive(), 0)
  })
})

describe('resolve: after a restart', () => {
  it('answers by path and by NarHash without asking over the network', async (t) => {
    const remote = tells('far', COST.upstream, { info })
    const { resolver, restart } = await resolving(t, [remote])
    await resolver.byHashPart(hashPart, options)
    const again = restart().resolver
    assert.equal((await again.byNarHash(info.narHash, options))?.storePath, info.storePath)
    assert.equal((await again.byHashPart(hashPart, options))?.narHash, info.narHash)
    assert.equal(remote.asked, 1)
  })
  it('does not believe its own table when the key is not trusted any more', async (t) => {
    const remote = tells('far', COST.upstream, { info })
    const { resolver, restart } = await resolving(t, [remote])
    await resolver.byHashPart(hashPart, options)
    const keys = trustedKeys([sampleKey('signer-2', 2).publicKey])
    const policy = createPolicy({ keys, threshold: 1, storeDir: STORE_DIR })
    const again = restart(policy).resolver
    assert.equal(await again.byNarHash(info.narHash, options), undefined)
    assert.equal(await again.byHashPart(hashPart, options), undefined)
    assert.equal(remote.asked, 2)
  })
  it('finds the believed one among many narinfos of one NAR', async (t) => {
    const { table, restart, pass } = await resolving(t, [])
    const stranger = sampleKey('stranger-1', 3)
    const stale = createPolicy({
      keys: trustedKeys([stranger.publicKey]),
      threshold: 1,
      storeDir: STORE_DIR,
    })
    for (let i = 0; i < 12; i++) {
      const bare = { ...narInfoOf(plan, `old-${i}`), signatures: [] }
      table.put(stale.verify(signed(bare, stranger)))
    }
    pass(1)
    table.put(testPolicy.verify(info))
    assert.equal((await restart().resolver.byNarHash(info.narHash, options))?.storePath, info.storePath)
  })
  it('takes rows of another store directory for a miss', async (t) => {
    const { table, restart } = await resolving(t, [])
    table.put(testPolicy.verify(info))
    const { resolver } = restart(testPolicy, [], '/other/store')
    assert.equal(await resolver.byNarHash(info.narHash, options), undefined)
    assert.equal(await resolver.byHashPart(hashPart, options), undefined)
  })
  it('keeps a row for 30 days after it was last given', async (t) => {
    const day = 24 * 3600_000
    const { table, restart, pass } = await resolving(t, [])
    table.put(testPolicy.verify(info))
    pass(25 * day)
    assert.ok(await restart().resolver.byHashPart(hashPart, options))
    pass(25 * day)
    assert.ok(await restart().resolver.byNarHash(info.narHash, options))
    pass(10 * day)
    assert.equal(await restart().resolver.byNarHash(info.narHash, options), undefined)
  })
})

describe('resolve: offers', () => {
  it('keep the streams of all good candidates, not only of the first', async (t) => {
    const sources = ['a', 'b'].map((id) => tells(id, COST.upstream, { info, stream: stream(id, bytes) }))
    const bad = tells('liar', COST.neighbour, { info: lie, stream: stream('liar', bytes) })
    const { resolver } = await resolving(t, [bad, ...sources])
    const found = await resolver.byHashPart(hashPart, options)
    assert.ok(found)
    const offer = await resolver.askAll(found, options)
    assert.deepEqual(offer.streams.map(({ id }) => id).sort(), ['a', 'b'])
  })
  it('of one NAR under two paths are shared', async (t) => {
    const twin = narInfoOf(plan, 'twin-1.0')
    const sources = [
      tells('a', COST.upstream, { info, stream: stream('a', bytes) }),
      tells('b', COST.upstream, { info: twin, stream: stream('b', bytes) }),
    ]
    const { resolver } = await resolving(t, sources)
    await resolver.byHashPart(hashPart, options)
    const found = await resolver.byHashPart(hashPartOf(twin.storePath), options)
    assert.ok(found)
    assert.equal(resolver.offer(found).streams.length, 2)
  })
  it('do not give a row a signature it has not', async (t) => {
    const { table } = await resolving(t, [])
    table.put(testPolicy.verify(info))
    assert.deepEqual(table.byHashPart(hashPart)?.signatures.length, 1)
    assert.equal(table.byHashPart(hashPartOf(pathNamed('absent-1'))), undefined)
    assert.equal(table.byHashPart(hashPart)?.signatures[0]?.keyName, signer.name)
  })
})
