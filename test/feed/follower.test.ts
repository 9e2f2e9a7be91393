import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { FeedSource } from '../../src/feed/feed-source.ts'
import type { Follower } from '../../src/feed/follower.ts'
import type { Entry, MappingEntry } from '../../src/feed/entry.ts'
import { tempDir } from '../kit/temp.ts'
import { mapping, mappings, NAME, never, T0, testClock, testFeed, testFollower, withdrawalOf } from './kit.ts'

async function narHashFor(follower: Follower, entry: MappingEntry): Promise<string | undefined> {
  const [source] = follower.sources()
  const candidate = await source?.lookup(hashPartOf(entry.storePath), { signal: never() })
  return candidate?.info.narHash
}

for (const size of [1, 255, 256, 257, 300, 1000]) {
  test(`follows a feed of ${size} entries, in one step and in two`, async (t) => {
    const feed = await testFeed(t)
    const whole = await testFollower(t, feed, [feed.source()])
    const stepwise = await testFollower(t, feed, [feed.source()])
    const first = Math.floor(size / 2)
    await feed.publisher.append(mappings(0, first), { signal: never() })
    await stepwise.follower.sync({ signal: never() })
    await feed.publisher.append(mappings(first, size), { signal: never() })
    const [step] = await stepwise.follower.sync({ signal: never() })
    const [all] = await whole.follower.sync({ signal: never() })
    assert.deepEqual(step, { name: NAME, outcome: 'updated', newEntries: size - first, size, problems: [] })
    assert.deepEqual(all, { name: NAME, outcome: 'updated', newEntries: size, size, problems: [] })
    assert.equal(whole.dump(), stepwise.dump())
    assert.equal(whole.follower.status()[0]?.state, 'fresh')
    for (const n of [0, size - 1])
      assert.equal(await narHashFor(whole.follower, mapping(n)), mapping(n).narHash)
    assert.equal(await narHashFor(whole.follower, mapping(size)), undefined)
  })
}

test('the candidate carries what the entry says, for policy to judge', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  const entry = mapping(3)
  await feed.publisher.append([entry], { signal: never() })
  await follower.sync({ signal: never() })
  const [source] = follower.sources()
  const candidate = await source?.lookup(hashPartOf(entry.storePath), { signal: never() })
  assert.equal(source?.id, `feed:${NAME}`)
  assert.equal(candidate?.from, `feed:${NAME}`)
  assert.equal(candidate.cid?.toString(), entry.cid.toString())
  assert.deepEqual(candidate.info, {
    storePath: entry.storePath,
    narHash: entry.narHash,
    narSize: entry.narSize,
    references: [],
    signatures: candidate.info.signatures,
    url: `nar/${entry.narHash}.nar`,
    compression: 'none',
    cid: entry.cid.toString(),
  })
  assert.equal(candidate.info.signatures.length, 1)
})

test('what was accepted is there after a restart, without any source', async (t) => {
  const feed = await testFeed(t)
  const dbPath = join(await tempDir(t), 'state.sqlite')
  const before = await testFollower(t, feed, [feed.source()], { dbPath })
  await feed.publisher.append(mappings(0, 300), { signal: never() })
  await before.follower.sync({ signal: never() })
  before.db.close()
  const after = await testFollower(t, feed, [], { dbPath })
  assert.equal(await narHashFor(after.follower, mapping(299)), mapping(299).narHash)
  const [status] = after.follower.status()
  assert.equal(status?.size, 300)
  assert.equal(status.state, 'fresh')
})

test('another pinned key is another feed: nothing of the first is told', async (t) => {
  const feed = await testFeed(t)
  const other = await testFeed(t, { firstSeed: 0x40 })
  const dbPath = join(await tempDir(t), 'state.sqlite')
  const first = await testFollower(t, feed, [feed.source()], { dbPath })
  await feed.publisher.append([mapping(0)], { signal: never() })
  await first.follower.sync({ signal: never() })
  first.db.close()
  const second = await testFollower(t, other, [feed.source()], { dbPath })
  const [result] = await second.follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'failed')
  assert.equal(await narHashFor(second.follower, mapping(0)), undefined)
  assert.equal(second.follower.status()[0]?.state, 'never-synced')
})

test('a heartbeat alone renews the head', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append([mapping(0)], { signal: never() })
  await follower.sync({ signal: never() })
  feed.clock.seconds += 3600
  await feed.publisher.heartbeat({ signal: never() })
  const [renewed] = await follower.sync({ signal: never() })
  const [again] = await follower.sync({ signal: never() })
  assert.equal(renewed?.outcome, 'updated')
  assert.equal(renewed.newEntries, 0)
  assert.equal(again?.outcome, 'current')
  assert.equal(follower.status()[0]?.signedAt, T0 + 3600)
})

const days = (count: number) => count * 24 * 3600

for (const [title, later, state] of [
  ['the full max-age', days(2), 'fresh'],
  ['a second more', days(2) + 1, 'stale'],
  ['seven times the max-age', days(14), 'stale'],
  ['a second more than that', days(14) + 1, 'expired'],
  ['ten years, past the root document', days(3650), 'expired'],
  ['ten years back', -days(3650), 'clock-wrong'],
] as const) {
  test(`after ${title} a feed is ${state}, and still answers`, async (t) => {
    const feed = await testFeed(t)
    const { follower } = await testFollower(t, feed, [feed.source()])
    await feed.publisher.append([mapping(0)], { signal: never() })
    await follower.sync({ signal: never() })
    feed.clock.seconds += later
    assert.equal(follower.status()[0]?.state, state)
    assert.equal(await narHashFor(follower, mapping(0)), mapping(0).narHash)
  })
}

test('with a clock from before the program a feed is followed, and the floor is not raised', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append([mapping(0)], { signal: never() })
  const clock = testClock(1000)
  const { follower, db } = await testFollower(t, { ...feed, clock }, [feed.source()])
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
  assert.equal(follower.status()[0]?.state, 'clock-wrong')
  assert.equal(db.prepare('SELECT time_floor FROM feed').get()?.['time_floor'], 0)
})

test('a clock set back does not make an old head fresh', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  feed.clock.seconds += days(20)
  await feed.publisher.append([mapping(0)], { signal: never() })
  await follower.sync({ signal: never() })
  feed.clock.seconds = T0
  await feed.publisher.append([mapping(1)], { signal: never() })
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'failed')
  assert.match(result.problems.join(), /expected a heartbeat of the last 1209600 s/)
  assert.equal(result.size, 1)
})

test('the newest entry of a path wins, for every order of mapping and withdrawal', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  const first = mapping(1)
  const second = { ...mapping(3), storePath: first.storePath }
  const append = async (entry: Entry) => {
    await feed.publisher.append([entry], { signal: never() })
    await follower.sync({ signal: never() })
    return narHashFor(follower, first)
  }
  assert.equal(await append(withdrawalOf(first)), undefined, 'a withdrawal before its mapping')
  assert.equal(await append(first), first.narHash, 'a mapping after its withdrawal')
  assert.equal(await append(second), second.narHash, 'another NarHash for the same path')
  assert.equal(await append(withdrawalOf(second)), first.narHash, 'a withdrawal takes its own NarHash only')
  assert.equal(await append(withdrawalOf(first)), undefined, 'both withdrawn')
  assert.equal(await append(second), second.narHash, 'put in force again')
  assert.equal(await append(withdrawalOf(mapping(7))), second.narHash, 'a withdrawal of something unknown')
})

test('a mapping that was proven wrong is not told again, also after a restart', async (t) => {
  const feed = await testFeed(t)
  const dbPath = join(await tempDir(t), 'state.sqlite')
  const { follower, db } = await testFollower(t, feed, [feed.source()], { dbPath })
  const good = mapping(1)
  const wrong = { ...good, cid: mapping(3).cid }
  await feed.publisher.append([good, wrong], { signal: never() })
  await follower.sync({ signal: never() })
  const [source] = follower.sources()
  const told = await source?.lookup(hashPartOf(good.storePath), { signal: never() })
  assert.equal(told?.cid?.toString(), wrong.cid.toString())
  follower.markBad(wrong.narHash, wrong.cid)
  db.close()
  const after = await testFollower(t, feed, [], { dbPath })
  const [again] = after.follower.sources()
  const next = await again?.lookup(hashPartOf(good.storePath), { signal: never() })
  assert.equal(next?.cid?.toString(), good.cid.toString())
})

test('serves the files that it follows exactly as their publisher has them', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append(mappings(0, 600), { signal: never() })
  await follower.sync({ signal: never() })
  const paths = ['root/1', 'e1/checkpoint', 'e1/tile/entries/000', 'e1/tile/entries/001']
  paths.push('e1/tile/entries/002.p/88', 'e1/tile/0/000', 'e1/tile/0/002.p/88', 'e1/tile/1/000.p/2')
  for (const path of paths) {
    const served = await follower.files.read(NAME, path)
    assert.ok(served !== undefined, path)
    assert.ok(Buffer.from(served).equals(await feed.file(path)), path)
  }
})

for (const path of [
  'root/2',
  'e2/checkpoint',
  'e1/tile/entries/002',
  'e1/tile/entries/002.p/89',
  'e1/tile/1/000.p/3',
  'e1/tile/2/000.p/1',
  '../keys/x',
  'e1/checkpoint.tmp',
  '',
]) {
  test(`serves nothing for ${JSON.stringify(path)}`, async (t) => {
    const feed = await testFeed(t)
    const { follower } = await testFollower(t, feed, [feed.source()])
    await feed.publisher.append(mappings(0, 600), { signal: never() })
    await follower.sync({ signal: never() })
    assert.equal(await follower.files.read(NAME, path), undefined)
    assert.equal(await follower.files.read('narswarm.example/other', 'root/1'), undefined)
  })
}

test('a follower can be followed', async (t) => {
  const feed = await testFeed(t)
  const first = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append(mappings(0, 300), { signal: never() })
  await first.follower.sync({ signal: never() })
  const mirror: FeedSource = { id: 'mirror', fetch: (path) => first.follower.files.read(NAME, path) }
  const second = await testFollower(t, feed, [mirror])
  await second.follower.sync({ signal: never() })
  assert.equal(second.dump(), first.dump())
})

test('a partial bundle that is gone is cut from the full one', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 100), { signal: never() })
  const checkpoint = await feed.file('e1/checkpoint')
  await feed.publisher.append(mappings(100, 256), { signal: never() })
  await assert.rejects(feed.file('e1/tile/entries/000.p/100'))
  const { follower } = await testFollower(t, feed, [feed.source('late', { 'e1/checkpoint': checkpoint })])
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.size, 100)
  assert.deepEqual(result.problems, [])
})

test('two cycles at once are one after the other', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append(mappings(0, 700), { signal: never() })
  const results = await Promise.all([follower.sync({ signal: never() }), follower.sync({ signal: never() })])
  assert.deepEqual(
    results.map(([result]) => result?.outcome),
    ['updated', 'current'],
  )
})
