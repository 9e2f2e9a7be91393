import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashPartOf, nameOf } from '../../src/nix/store-path.ts'
import { createExplain } from '../../src/operations/explain.ts'
import type { ExplainDeps, ExplainReport } from '../../src/operations/explain.ts'
import { RequestError } from '../../src/operations/operations.ts'
import { COST, SourceMissError } from '../../src/source.ts'
import { createRewriting } from '../../src/substitute/rewriting.ts'
import { createScores } from '../../src/substitute/scores.ts'
import { createSurvey } from '../../src/substitute/survey.ts'
import { recordingLog } from '../kit/log.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { options, planOf } from '../spool/kit.ts'
import { blocksOf, MIB, pathNamed, peer, stream, tells, testPolicy } from '../substitute/kit.ts'
import { asOld, built, oldStore, twin } from '../substitute/old-store.ts'

const [zlibOld, zlibNew, glibc] = [twin('zlib-1.2', 'old'), twin('zlib-1.2', 'new'), pathNamed('glibc-2.40')]
const older = built(twin('program-1.0', 'old'), [zlibOld, glibc])
const newer = built(twin('program-1.0', 'new'), [zlibNew, glibc])
const oldPath = `${STORE_DIR}/${older.info.storePath}`
const root = planOf(newer.bytes).root
const PATH = `${STORE_DIR}/${newer.info.storePath}`
const upstream = stream('upstream:https://cache.example', newer.bytes)
const told = tells(upstream.id, upstream.cost, { info: newer.info, stream: upstream })
const feed = tells('feed:example.org/main', COST.local, { info: newer.info, cid: root })

function world(store = oldStore(), parts: Partial<ExplainDeps> & { sources?: (typeof told)[] } = {}) {
  const { sources = [told], ...changes } = parts
  const log = recordingLog()
  const names = {
    ...store,
    samePackage: (packageName: string) =>
      [...store.all()].filter((path) => nameOf(path).startsWith(`${packageName}-`)),
    filled: Promise.resolve(),
  }
  const rewriting = createRewriting({ store, names, clock: () => 0, log })
  const survey = createSurvey({
    policy: testPolicy,
    table: { byHashPart: () => undefined },
    sources,
    neighbours: () => [],
  })
  const deps: ExplainDeps = {
    survey,
    spool: { has: () => false },
    index: { nar: () => undefined },
    store,
    upgrades: { rewriting, names },
    blockSources: () => [],
    scores: createScores({ clock: () => 0 }),
    clock: () => 0,
    log,
    ...changes,
  }
  const explain = createExplain(deps, { storeDir: STORE_DIR })
  return { rewriting, deps, explain: (path: string = PATH): Promise<ExplainReport> => explain(path, options) }
}

describe('explain', () => {
  it('names who told, by which key, and what the NAR is', async () => {
    const { answers, nar, path, now } = await world().explain()
    assert.equal(path, PATH)
    assert.deepEqual(answers, [{ source: upstream.id, outcome: 'told' }])
    assert.deepEqual(nar, {
      nar_hash: `sha256:${newer.info.narHash}`,
      nar_size: newer.info.narSize,
      references: 3,
      keys: ['signer-1'],
    })
    assert.equal(now, upstream.id)
    assert.deepEqual(upstream.opened, [])
  })

  it('takes a hash part, and refuses what is no path', async () => {
    const { explain } = world()
    assert.equal((await explain(hashPartOf(newer.info.storePath))).path, PATH)
    await assert.rejects(explain('program'), RequestError)
  })

  it('says that nobody knows it', async () => {
    const none = { ...told, lookup: async () => undefined }
    assert.deepEqual(await world(oldStore(), { sources: [none] }).explain(), {
      version: 1,
      path: PATH,
      answers: [{ source: upstream.id, outcome: 'miss' }],
    })
  })

  it('says that no trusted key signed it', async () => {
    const unsigned = tells('upstream:x', COST.upstream, { info: { ...newer.info, signatures: [] } })
    const { answers, nar } = await world(oldStore(), { sources: [unsigned] }).explain()
    assert.equal(nar, undefined)
    assert.equal(answers[0]?.outcome, 'refused')
    assert.match(answers[0]?.reason ?? '', /it carries no signature/)
  })

  it('finds the older path that gives it, and leaves all as it was', async () => {
    const store = oldStore()
    store.add(asOld(older))
    const { explain, rewriting } = world(store)
    const report = await explain()
    assert.deepEqual(report.older_paths, {
      state: 'looked-for',
      paths: [
        {
          path: oldPath,
          nar_size: older.info.narSize,
          outcome: 'right',
          references: { paired: 3, of: 3 },
          took_ms: 0,
        },
      ],
    })
    assert.equal(report.now, 'rewritten')
    const { length } = store.reads
    await rewriting.guess(newer.info)?.prove(options)
    assert.equal(store.reads.length, 2 * length, 'what it found is not used')
  })

  it('names the relay that would be asked, unless the bytes come from nearer', async () => {
    const relay = { sources: ['neighbour:relay'], older: oldPath }
    const relayed: ExplainDeps['relayed'] = () => ({ relays: relay.sources, older: older.info })
    assert.deepEqual((await world(oldStore(), { relayed }).explain()).relay, relay)
    const store = oldStore()
    store.add(asOld(older))
    const made = await world(store, { relayed }).explain()
    assert.deepEqual([made.now, made.relay], ['rewritten', undefined])
  })

  it('says how many blocks of an older path are right, where a peer gives the nodes', async () => {
    const store = oldStore()
    store.add(asOld(older)).bytes[3 * MIB + 9]! ^= 1
    const blocks = blocksOf(newer.bytes)
    const one = peer('http:http://10.0.0.2', blocks)
    const { explain } = world(store, { sources: [feed, told], blockSources: () => [one] })
    const { older_paths: paths, now, ways } = await explain()
    assert.deepEqual(paths?.paths[0]?.leaves, { right: 5, of: 6 })
    assert.equal(paths?.paths[0]?.outcome, 'wrong')
    assert.deepEqual(one.asked, [root.toString()], 'the node above the leaves, and none of them')
    assert.equal(now, 'blocks')
    assert.deepEqual(ways?.[0], {
      way: 'blocks',
      source: feed.id,
      root: root.toString(),
      peers: [one.id],
      state: 'usable',
    })
  })

  it('does without the nodes where no peer has them', async () => {
    const store = oldStore()
    store.add(asOld(older)).bytes[5]! ^= 1
    const none = peer('http:http://10.0.0.2', new Map(), () => {
      throw new SourceMissError('http:http://10.0.0.2', 'no')
    })
    const { explain } = world(store, { sources: [feed, told], blockSources: () => [none] })
    const [path] = (await explain()).older_paths?.paths ?? []
    assert.deepEqual([path?.outcome, path?.leaves], ['wrong', undefined])
  })

  it('does not hash an older path with a reference that has no pair', async () => {
    const store = oldStore()
    store.add({ ...asOld(older), references: [older.info.storePath, zlibOld, glibc, pathNamed('extra-1')] })
    const [path] = (await world(store).explain()).older_paths?.paths ?? []
    assert.deepEqual([path?.outcome, path?.references], ['unpaired', { paired: 3, of: 4 }])
    assert.deepEqual(store.reads, [])
  })

  it('names others of the same package, and why they are of no use', async () => {
    const store = oldStore()
    store.add({ ...asOld(older), storePath: twin('program-1.0', 'shorter'), bytes: older.bytes.subarray(1) })
    store.add({ ...asOld(older), storePath: twin('program-0.9', 'old') })
    const { older_paths: found } = await world(store).explain()
    assert.deepEqual(
      found?.paths.map(({ outcome }) => outcome),
      ['other-size', 'other-name'],
    )
    assert.deepEqual(store.reads, [])
  })

  it('says that an older path was tried in vain, and is not tried now', async () => {
    const store = oldStore()
    const path = store.add(asOld(older))
    path.bytes[7]! ^= 1
    const { explain, rewriting } = world(store)
    await rewriting.guess(newer.info)?.prove(options)
    path.bytes[7]! ^= 1
    const report = await explain()
    assert.deepEqual(
      report.older_paths?.paths.map(({ outcome, has_failed: failed }) => [outcome, failed]),
      [['right', true]],
    )
    assert.equal(report.now, upstream.id)
  })

  it('says why an older path cannot be read', async () => {
    const store = oldStore()
    store.add(asOld(older))
    store.onRead = () => {
      throw new Error('EIO')
    }
    const [path] = (await world(store).explain()).older_paths?.paths ?? []
    assert.deepEqual([path?.outcome, path?.reason], ['unreadable', 'EIO'])
  })

  it('says that older paths are not looked for', async () => {
    const off = await world(oldStore(), { upgrades: undefined }).explain()
    assert.equal(off.older_paths?.state, 'off')
    const bare = await world(oldStore(), { store: undefined, upgrades: undefined }).explain()
    assert.equal(bare.older_paths?.state, 'no-store')
  })

  const here: [title: string, changes: Partial<ExplainDeps>, now: string][] = [
    ['the spool', { spool: { has: () => true } }, 'spool'],
    ['the index', { index: { nar: () => ({}) as ReturnType<ExplainDeps['index']['nar']> } }, 'store'],
  ]
  for (const [title, changes, now] of here) {
    it(`says that it is here by ${title}`, async () => {
      assert.equal((await world(oldStore(), changes).explain()).now, now)
    })
  }

  it('tells a valid path from one that has another NAR', async () => {
    const store = oldStore()
    store.add(asOld(newer))
    const report = await world(store).explain()
    assert.deepEqual([report.here, report.now], [{ spool: false, store: 'yes' }, 'store'])
    store.add({ ...asOld(newer), bytes: older.bytes })
    const other = await world(store).explain()
    assert.deepEqual([other.here?.store, other.now], ['other', upstream.id])
  })

  it('says that nobody gives the bytes of a root without a peer', async () => {
    const report = await world(oldStore(), { sources: [feed] }).explain()
    assert.equal(report.now, undefined)
    assert.deepEqual(
      report.ways?.map(({ way, state }) => [way, state]),
      [['blocks', 'nobody']],
    )
  })

  it('puts last what lied', async () => {
    const scores = createScores({ clock: () => 0 })
    scores.lied(upstream.id)
    const other = stream('upstream:https://other.example', newer.bytes)
    const second = tells(other.id, other.cost, { info: newer.info, stream: other })
    const { ways, now } = await world(oldStore(), { sources: [told, second], scores }).explain()
    assert.deepEqual(
      ways?.map(({ source, state }) => [source, state]),
      [
        [other.id, 'usable'],
        [upstream.id, 'last-resort'],
      ],
    )
    assert.equal(now, other.id)
  })
})
