import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseCheckpoint } from '../../src/feed/checkpoint.ts'
import type { MappingEntry } from '../../src/feed/entry.ts'
import { writeDurably } from '../../src/feed/durable-file.ts'
import { FeedKeyError, PublisherStateError } from '../../src/feed/errors.ts'
import { createPublishedFiles } from '../../src/feed/feed-files.ts'
import { keyFilePath } from '../../src/feed/key-file.ts'
import { parseNote } from '../../src/feed/note.ts'
import { createFeed, openPublisher } from '../../src/feed/publisher.ts'
import type { FeedPlace } from '../../src/feed/publisher-state.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'
import {
  countingRandom,
  mapping,
  mappings,
  NAME,
  never,
  STORE_DIR,
  T0,
  testClock,
  testFeed,
  testFollower,
  withdrawalOf,
  type TestFeed,
} from './kit.ts'

const placeOf = ({ dir, keysDir }: TestFeed): FeedPlace => ({ name: NAME, dir, keysDir, storeDir: STORE_DIR })
const reopen = (feed: TestFeed) => openPublisher(placeOf(feed), { clock: feed.clock, log: recordingLog() })

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort()
}

test('a new feed is an empty log with a head', async (t) => {
  const feed = await testFeed(t)
  assert.deepEqual(await filesBelow(feed.dir), ['e1/checkpoint', 'root/1'])
  const { follower } = await testFollower(t, feed, [feed.source()])
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
  assert.equal(follower.status()[0]?.state, 'fresh')
  assert.equal(follower.status()[0]?.size, 0)
})

test('makes one key a purpose, mode 0400, and never over one that is there', async (t) => {
  const feed = await testFeed(t)
  assert.deepEqual(await readdir(feed.keysDir), [
    'narswarm.example,main.heartbeat.key',
    'narswarm.example,main.log.key',
    'narswarm.example,main.root.key',
  ])
  const path = keyFilePath(feed.keysDir, NAME, 'log')
  assert.match(
    await readFile(path, 'utf8'),
    /^PRIVATE\+KEY\+narswarm\.example\/main\/e1\+[0-9a-f]{8}\+[^\n]+\n$/,
  )
  const deps = { clock: feed.clock, log: recordingLog(), randomBytes: countingRandom(1) }
  await assert.rejects(createFeed(placeOf(feed), deps), PublisherStateError)
  await assert.rejects(createFeed({ ...placeOf(feed), dir: `${feed.dir}2` }, deps), FeedKeyError)
})

const keyFaults: [string, (path: string) => Promise<void>, RegExp][] = [
  ['readable by the group', (path) => chmod(path, 0o440), /expected mode 0400, got 0440/],
  ['readable by others', (path) => chmod(path, 0o404), /expected mode 0400, got 0404/],
  [
    'a symbolic link',
    async (path) => {
      await rename(path, `${path}.real`)
      await symlink(`${path}.real`, path)
    },
    /expected a file, got a symbolic link/,
  ],
  ['missing', (path) => rm(path), /ENOENT/],
  [
    'a folder',
    async (path) => {
      await rm(path)
      await mkdir(path)
    },
    /expected a regular file/,
  ],
  [
    'a Nix key',
    async (path) => {
      await rm(path)
      await writeFile(path, `cache.example-1:${Buffer.alloc(64, 7).toString('base64')}\n`, { mode: 0o400 })
    },
    /expected PRIVATE\+KEY\+/,
  ],
  [
    'the key of another purpose',
    async (path) => {
      await rm(path)
      await rename(path.replace('.log.', '.root.'), path)
    },
    /expected the log key narswarm/,
  ],
]

for (const [title, spoil, reason] of keyFaults) {
  test(`refuses a key file that is ${title}, without telling the key`, async (t) => {
    const feed = await testFeed(t)
    const path = keyFilePath(feed.keysDir, NAME, 'log')
    const secret = (await readFile(path, 'utf8')).trim().split('+').slice(4).join('+')
    await spoil(path)
    await assert.rejects(reopen(feed), (error: Error) => {
      assert.ok(error instanceof FeedKeyError)
      assert.match(error.message, reason)
      assert.ok(!error.message.includes(secret))
      return true
    })
  })
}

test('refuses a key file in the Nix store', async (t) => {
  const feed = await testFeed(t)
  const place = { ...placeOf(feed), storeDir: feed.keysDir }
  await assert.rejects(
    openPublisher(place, { clock: feed.clock, log: recordingLog() }),
    /is in the Nix store/,
  )
})

test('skips what its latest entry already says, also after a restart and within one batch', async (t) => {
  const feed = await testFeed(t)
  const [one, two] = [mapping(1), mapping(2)]
  const append = (...entries: MappingEntry[]) => feed.publisher.append(entries, { signal: never() })
  assert.deepEqual(await append(one, two, one), { appended: 2, skipped: 1, tooLarge: 0, size: 2 })
  assert.deepEqual(await append(one), { appended: 0, skipped: 1, tooLarge: 0, size: 2 })
  const again = await reopen(feed)
  const withdrawal = withdrawalOf(one)
  assert.deepEqual(await again.append([one, withdrawal, withdrawal, one, two], { signal: never() }), {
    appended: 2,
    skipped: 3,
    tooLarge: 0,
    size: 4,
  })
})

test('leaves out a path whose entry would not fit, and says so', async (t) => {
  const feed = await testFeed(t)
  const log = recordingLog()
  const publisher = await openPublisher(placeOf(feed), { clock: feed.clock, log })
  const references = mappings(0, 1500).map(({ storePath }) => storePath)
  const result = await publisher.append([mapping(1), mapping(3, { references })], { signal: never() })
  assert.deepEqual(result, { appended: 1, skipped: 0, tooLarge: 1, size: 1 })
  assert.equal(log.lines.filter(({ level }) => level === 'warn').length, 1)
})

test('writes the checkpoint after every file that it needs, and each file whole', async (t) => {
  const written: string[] = []
  const feed = await testFeed(t, {
    writeFile: async (path, bytes) => {
      written.push(path.split('/feed/')[1] ?? path)
      await writeDurably(path, bytes)
    },
  })
  await feed.publisher.append(mappings(0, 300), { signal: never() })
  assert.deepEqual(written, [
    'e1/tile/entries/000',
    'e1/tile/0/000',
    'e1/tile/entries/001.p/44',
    'e1/tile/0/001.p/44',
    'e1/tile/1/000.p/1',
    'e1/checkpoint',
  ])
  assert.deepEqual(await filesBelow(feed.dir), [...written, 'root/1'].sort())
})

test('killed between any two files the old head stands, and the next append repairs', async (t) => {
  // From 200 to 600 entries: two full bundles and tiles, three partial files, the checkpoint.
  const files = 8
  for (let k = 0; k <= files; k++) {
    let left = Number.POSITIVE_INFINITY
    const feed = await testFeed(t, {
      writeFile: async (path, bytes) => {
        if (left === 0) throw new Error('killed')
        left -= 1
        await writeDurably(path, bytes)
      },
    })
    const { follower } = await testFollower(t, feed, [feed.source()])
    await feed.publisher.append(mappings(0, 200), { signal: never() })
    left = k
    const appended = feed.publisher.append(mappings(200, 600), { signal: never() })
    if (k < files) await assert.rejects(appended, /killed/)
    else await appended
    left = Number.POSITIVE_INFINITY
    const [between] = await follower.sync({ signal: never() })
    assert.equal(between?.size, k < files ? 200 : 600, `after ${k} files`)
    assert.deepEqual(between.problems, [])
    // By a new process that has something else to say, and by the old one.
    const next = k % 2 === 0 ? await reopen(feed) : feed.publisher
    await next.append(mappings(5000, 5300), { signal: never() })
    const [after] = await follower.sync({ signal: never() })
    assert.deepEqual(after?.problems, [])
    assert.equal(after.outcome, 'updated')
    assert.equal((await reopen(feed)).size, (k < files ? 200 : 600) + 300)
    const top = `e1/tile/1/000.p/${k < files ? 1 : 3}`
    for (const path of ['e1/tile/0/000', 'e1/tile/entries/000', top]) {
      const served = await follower.files.read(NAME, path)
      assert.ok(served !== undefined && (await feed.file(path)).equals(served), `${path} after ${k} files`)
    }
  }
})

test('an aborted append leaves the old head', async (t) => {
  const feed = await testFeed(t)
  const controller = new AbortController()
  function* entries() {
    yield mapping(1)
    controller.abort(new Error('stop'))
    yield mapping(2)
  }
  await assert.rejects(feed.publisher.append(entries(), { signal: controller.signal }), /stop/)
  assert.equal(feed.publisher.size, 0)
  assert.deepEqual(await feed.publisher.append([mapping(3)], { signal: never() }), {
    appended: 1,
    skipped: 0,
    tooLarge: 0,
    size: 1,
  })
})

test('a heartbeat signs the same tree at another time', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 5), { signal: never() })
  const before = parseNote(await feed.file('e1/checkpoint'))
  feed.clock.seconds += 60
  await feed.publisher.heartbeat({ signal: never() })
  const after = parseNote(await feed.file('e1/checkpoint'))
  assert.equal(after.text, before.text)
  assert.equal(feed.publisher.status().signedAt, T0 + 60)
  assert.equal(parseCheckpoint(after.text).size, 5)
})

test('appends and heartbeats that overlap are made one after the other', async (t) => {
  const feed = await testFeed(t)
  await Promise.all([
    feed.publisher.append(mappings(0, 300), { signal: never() }),
    feed.publisher.heartbeat({ signal: never() }),
    feed.publisher.append(mappings(300, 600), { signal: never() }),
    feed.publisher.heartbeat({ signal: never() }),
  ])
  assert.equal((await reopen(feed)).size, 600)
})

const damages: [string, (feed: TestFeed) => Promise<void>, RegExp][] = [
  ['one bit of a bundle is flipped', (feed) => flip(join(feed.dir, 'e1/tile/entries/000')), /entry|root/],
  ['a bundle is missing', (feed) => rm(join(feed.dir, 'e1/tile/entries/000')), /entries\/000 is missing/],
  ['the checkpoint is missing', (feed) => rm(join(feed.dir, 'e1/checkpoint')), /e1\/checkpoint is missing/],
  ['the checkpoint is damaged', (feed) => flip(join(feed.dir, 'e1/checkpoint')), /note|checkpoint/],
  ['the root document is missing', (feed) => rm(join(feed.dir, 'root/1')), /there is no feed/],
  [
    'two bundles are swapped for those of another feed',
    async (feed) => {
      const bytes = await feed.file('e1/tile/entries/000')
      await writeFile(join(feed.dir, 'e1/tile/entries/001'), bytes)
      await writeFile(join(feed.dir, 'e1/tile/entries/000'), await feed.file('e1/tile/entries/001'))
    },
    /the 512 entries have root \S+, the checkpoint says/,
  ],
]

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path)
  bytes[200] = (bytes[200] ?? 0) ^ 1
  await writeFile(path, bytes)
}

for (const [title, damage, reason] of damages) {
  test(`refuses to sign on when ${title}`, async (t) => {
    const feed = await testFeed(t)
    await feed.publisher.append(mappings(0, 512), { signal: never() })
    await damage(feed)
    await assert.rejects(reopen(feed), (error: Error) => {
      assert.ok(error instanceof PublisherStateError)
      assert.match(error.message, reason)
      return true
    })
  })
}

test('keys of another feed are refused', async (t) => {
  const feed = await testFeed(t)
  const other = await testFeed(t, { firstSeed: 0x40, clock: testClock() })
  await assert.rejects(
    openPublisher({ ...placeOf(feed), keysDir: other.keysDir }, { clock: feed.clock, log: recordingLog() }),
    FeedKeyError,
  )
})

for (const path of [
  '../keys/narswarm.example,main.root.key',
  'root/../root/1',
  '/etc/passwd',
  'root/1\0',
  'e1/checkpoint.tmp',
  'root',
]) {
  test(`published files: nothing for ${JSON.stringify(path)}`, async (t) => {
    const feed = await testFeed(t)
    await writeFile(join(feed.dir, 'e1/checkpoint.tmp'), 'half')
    const files = createPublishedFiles(new Map([[NAME, feed.dir]]))
    assert.equal(await files.read(NAME, path), undefined)
    assert.ok((await files.read(NAME, 'root/1')) !== undefined)
    assert.equal(await files.read('narswarm.example/other', 'root/1'), undefined)
  })
}

test('the folder of a feed alone is enough to follow it from another place', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 1000), { signal: never() })
  const moved = join(await tempDir(t), 'moved')
  await rename(feed.dir, moved)
  const files = createPublishedFiles(new Map([[NAME, moved]]))
  const { follower } = await testFollower(t, feed, [
    { id: 'folder', fetch: (path) => files.read(NAME, path) },
  ])
  await follower.sync({ signal: never() })
  const [source] = follower.sources()
  const found = await source?.lookup(hashPartOf(mapping(777).storePath), { signal: never() })
  assert.equal(found?.info.narHash, mapping(777).narHash)
})
