/** [security 3 D]: whatever a source gives, the stored state stays byte for byte what it was, and the reason is told. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { formatBundle, parseBundle } from '../../src/feed/bundle.ts'
import { formatEntry } from '../../src/feed/entry.ts'
import type { FeedSource } from '../../src/feed/feed-source.ts'
import { createCompactRange, leafHash } from '../../src/feed/merkle.ts'
import { formatNote, parseNote, signText } from '../../src/feed/note.ts'
import { COSIGNER_KEY, generateFeedKey, LOG_KEY } from '../../src/feed/vkey.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import {
  mapping,
  mappings,
  NAME,
  never,
  seed,
  STORE_DIR,
  T0,
  testFeed,
  testFollower,
  type TestFeed,
} from './kit.ts'

const ORIGIN = `${NAME}/e1`
const SIZE = 300
const KNOWN = 290

const entryBytes = (n: number) => formatEntry(mapping(n), STORE_DIR)

/** The root hash of the feed's first `size` entries, with `changed` in place of the last. */
function rootOf(size: number, changed?: Uint8Array): Uint8Array {
  const range = createCompactRange()
  for (let n = 0; n < size; n++) {
    range.append(leafHash(n === size - 1 && changed !== undefined ? changed : entryBytes(n)))
  }
  return range.root()
}

interface Attack {
  title: string
  /** Files that the hostile source shows in place of the feed's own. */
  files: (feed: TestFeed) => Promise<Record<string, Uint8Array | undefined>>
  reason: RegExp
  outcome?: 'failed' | 'current' | 'forked'
}

const checkpoint =
  (make: (feed: TestFeed) => Uint8Array): Attack['files'] =>
  async (feed) => ({
    'e1/checkpoint': make(feed),
  })
const noteText = (edit: (text: string) => string) => async (feed: TestFeed) => ({
  'e1/checkpoint': Buffer.from(edit((await feed.file('e1/checkpoint')).toString('utf8'))),
})
/** The right body, with signatures of our choice. */
const body = (text: string, time: number) => (feed: TestFeed) =>
  formatNote({
    text,
    signatures: [signText(text, feed.keys.log, time), signText(text, feed.keys.heartbeat, time)],
  })
const right = () => `${ORIGIN}\n${SIZE}\n${Buffer.from(rootOf(SIZE)).toString('base64')}\n`
const bundle = (edit: (bytes: Buffer) => Uint8Array | undefined) => async (feed: TestFeed) => ({
  'e1/tile/entries/001.p/44': edit(await feed.file('e1/tile/entries/001.p/44')),
})
const stranger = generateFeedKey(ORIGIN, LOG_KEY, () => seed(0x77))
const strangerBeat = generateFeedKey(`${NAME}/heartbeat`, COSIGNER_KEY, () => seed(0x78))

const ATTACKS: Attack[] = [
  {
    title: 'D1 a smaller head of the same history',
    files: checkpoint((feed) => feed.sign({ size: 100, rootHash: rootOf(100) })),
    reason: /^$/,
    outcome: 'current',
  },
  {
    title: 'D1 a jump above max-growth',
    files: checkpoint((feed) => feed.sign({ size: 2_000_000 + KNOWN + 1, rootHash: seed(1) })),
    reason: /expected at most 290 \+ 2000000 entries, got 2000291/,
  },
  ...['9223372036854775808', '00300', '+300', '3e2', '-1', '9007199254740992', ' 300', ''].map((size) => ({
    title: `D1 size ${JSON.stringify(size)}`,
    files: checkpoint(body(right().replace('\n300\n', `\n${size}\n`), T0)),
    reason: /line 2: expected a decimal below 2\^53|lines/,
  })),
  {
    title: 'D2 the same head, told earlier',
    files: checkpoint((feed) => feed.sign({ size: KNOWN, rootHash: rootOf(KNOWN) }, T0 - 3600)),
    reason: /^$/,
    outcome: 'current',
  },
  {
    title: 'D2 11 minutes in the future',
    files: checkpoint((feed) => feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }, T0 + 660)),
    reason: /its time 2026-09-21T\S+ is in the future/,
  },
  {
    title: 'D2 a heartbeat too old to learn from',
    files: checkpoint((feed) => feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }, T0 - 15 * 24 * 3600)),
    reason: /expected a heartbeat of the last 1209600 s/,
  },
  {
    title: 'D2 time 0',
    files: checkpoint((feed) => feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }, 0)),
    reason: /time 0 is out of range/,
  },
  {
    title: 'D2 time 2^63',
    files: checkpoint((feed) => feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }, 2 ** 63)),
    reason: /time 9223372036854775808 is out of range/,
  },
  ...[`${ORIGIN} `, ORIGIN.toUpperCase(), ORIGIN.replace('main', 'm\u0430in'), `${NAME}/e2`, NAME].map(
    (origin) => ({
      title: `D3 origin ${JSON.stringify(origin)}`,
      files: checkpoint(body(right().replace(ORIGIN, origin), T0)),
      reason: /expected origin "narswarm.example\/main\/e1"/,
    }),
  ),
  {
    title: 'D4 signed by unknown keys only',
    files: checkpoint(() =>
      formatNote({
        text: right(),
        signatures: [signText(right(), stranger, T0), signText(right(), strangerBeat, T0)],
      }),
    ),
    reason: /expected a signature by/,
  },
  {
    title: 'D4 no heartbeat',
    files: checkpoint((feed) =>
      formatNote({ text: right(), signatures: [signText(right(), feed.keys.log, T0)] }),
    ),
    reason: /expected a signature by the heartbeat key/,
  },
  {
    title: 'D4 a heartbeat alone',
    files: checkpoint((feed) =>
      formatNote({ text: right(), signatures: [signText(right(), feed.keys.heartbeat, T0)] }),
    ),
    reason: /expected a signature by the log key/,
  },
  {
    title: 'D4 the log key with a bad signature',
    files: checkpoint((feed) => {
      const good = parseNote(feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }))
      const [log, heartbeat] = good.signatures
      assert.ok(log !== undefined && heartbeat !== undefined)
      const bad = { ...log, bytes: signText('other\n', feed.keys.log, T0).bytes }
      return formatNote({ text: good.text, signatures: [bad, heartbeat] })
    }),
    reason: /signature by "narswarm.example\/main\/e1": does not verify/,
  },
  {
    title: 'D4 a time that the heartbeat did not sign',
    files: checkpoint((feed) => {
      const { text, signatures } = parseNote(feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }))
      const later = signatures.map((signature) => {
        const bytes = Buffer.from(signature.bytes)
        if (bytes.length === 72) bytes.writeBigUInt64BE(BigInt(T0 + 60))
        return { ...signature, bytes }
      })
      return formatNote({ text, signatures: later })
    }),
    reason: /heartbeat": does not verify/,
  },
  {
    title: 'D4 33 signatures',
    files: checkpoint((feed) => {
      const { text, signatures } = parseNote(feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }))
      const others = Array.from({ length: 31 }, (_, id) => ({ name: 'witness.example', id, bytes: seed(1) }))
      return formatNote({ text, signatures: [...signatures, ...others] })
    }),
    reason: /at most 32 signatures, got 33/,
  },
  {
    title: 'D4 one signature twice',
    files: checkpoint((feed) => {
      const { text, signatures } = parseNote(feed.sign({ size: SIZE, rootHash: rootOf(SIZE) }))
      return formatNote({ text, signatures: [...signatures, ...signatures.slice(0, 1)] })
    }),
    reason: /two signatures by one key/,
  },
  {
    title: 'D5 CRLF',
    files: noteText((text) => text.replaceAll('\n', '\r\n')),
    reason: /control character U\+000d/,
  },
  {
    title: 'D5 no blank line',
    files: noteText((text) => text.replace('\n\n', '\n')),
    reason: /expected text, a blank/,
  },
  {
    title: 'D5 two blank lines',
    files: checkpoint(body(`${right()}\n`, T0)),
    reason: /expected origin, size and root hash, got 4 lines/,
  },
  {
    title: 'D5 an extension line',
    files: checkpoint(body(`${right()}more\n`, T0)),
    reason: /expected origin, size and root hash, got 4 lines/,
  },
  {
    title: 'D5 a NUL',
    files: noteText((text) => text.replace('main', 'ma\0in')),
    reason: /control character U\+0000/,
  },
  {
    title: 'D5 base64 without padding',
    files: checkpoint(body(right().replace('=\n', '\n'), T0)),
    reason: /line 3: expected base64 of 32 bytes/,
  },
  {
    title: 'D5 base64 with white space',
    files: checkpoint(body(right().replace('=\n', ' =\n'), T0)),
    reason: /line 3: expected base64 of 32 bytes/,
  },
  {
    title: 'D5 the URL alphabet in a root hash',
    files: checkpoint(body(`${ORIGIN}\n300\n${'-'.repeat(43)}=\n`, T0)),
    reason: /line 3: expected base64 of 32 bytes/,
  },
  {
    title: 'D5 base64 with stray bits',
    files: checkpoint(body(`${ORIGIN}\n300\n${'A'.repeat(42)}B=\n`, T0)),
    reason: /line 3: expected base64 of 32 bytes/,
  },
  {
    title: 'D5 base64 of a signature without padding',
    files: noteText((text) => text.replace(/=+\n$/, '\n')),
    reason: /signature 2: expected/,
  },
  {
    title: 'D5 a note above 64 KiB',
    files: checkpoint(() => new Uint8Array(64 * 1024 + 1)),
    reason: /at most 65536 bytes/,
  },
  {
    title: 'D5 an empty answer',
    files: checkpoint(() => new Uint8Array()),
    reason: /expected text, a blank line/,
  },
  {
    title: 'D5 a web page',
    files: checkpoint(() => Buffer.from('<html>\n')),
    reason: /expected text, a blank line/,
  },
  {
    title: 'D5 not UTF-8',
    files: checkpoint(() => Uint8Array.of(0xff, 0xfe, 0x0a)),
    reason: /expected UTF-8/,
  },
  {
    title: 'D6 the head of another epoch, by its own key',
    files: checkpoint(() => {
      const old = generateFeedKey(`${NAME}/e0`, LOG_KEY, () => seed(0x55))
      const text = right().replace(ORIGIN, `${NAME}/e0`)
      return formatNote({ text, signatures: [signText(text, old, T0)] })
    }),
    reason: /expected a signature by/,
  },
  {
    title: 'D9 a head that no entries give',
    files: checkpoint((feed) => feed.sign({ size: SIZE, rootHash: seed(9) })),
    reason: /300 entries: expected root hash \S+, got \S+/,
  },
  {
    title: 'D9 a bundle that is not there',
    files: async () => ({ 'e1/tile/entries/001.p/44': undefined }),
    reason: /entries\/001\.p\/44 is not there/,
  },
  {
    title: 'D9 a bundle of too few entries',
    files: bundle((b) => b.subarray(0, -300)),
    reason: /with \d+ bytes left|expected 44/,
  },
  {
    title: 'D9 a bundle of one entry less',
    files: bundle((b) => formatBundle(parseBundle(b, 44).slice(0, 43))),
    reason: /expected 44 entries, got 43/,
  },
  {
    title: 'D9 a bundle of one entry more',
    files: bundle((b) => Buffer.concat([b, formatBundle([entryBytes(0)])])),
    reason: /bytes after the last of 44 entries/,
  },
  {
    title: 'D9 a length prefix past the end',
    files: bundle((b) => {
      const bytes = Buffer.from(b)
      bytes.writeUInt16BE(65_535)
      return bytes
    }),
    reason: /entry 0 at offset 0 has length \d+, with \d+ bytes left/,
  },
  {
    title: 'D9 an entry of length 0',
    files: bundle((b) => Buffer.concat([Buffer.alloc(2), b])),
    reason: /entry 0 at offset 0 has length 0/,
  },
  {
    title: 'D9 trailing bytes',
    files: bundle((b) => Buffer.concat([b, Buffer.of(0)])),
    reason: /1 bytes after the last/,
  },
  {
    title: 'D9 entries of another log',
    files: bundle(() => formatBundle(mappings(5000, 5044).map((entry) => formatEntry(entry, STORE_DIR)))),
    reason: /expected root hash/,
  },
  {
    title: 'D9 two entries in each other’s place',
    files: bundle((b) => {
      const entries = parseBundle(b, 44)
      return formatBundle([...entries.slice(0, 40), ...entries.slice(41), ...entries.slice(40, 41)])
    }),
    reason: /expected root hash/,
  },
  {
    title: 'D9 one bit flipped',
    files: bundle((b) => {
      const bytes = Buffer.from(b)
      bytes[bytes.length - 100] = (bytes[bytes.length - 100] ?? 0) ^ 1
      return bytes
    }),
    reason: /expected/,
  },
  {
    title: 'an entry that is not canonical, signed into the log by its own publisher',
    files: async (feed) => {
      const bad = Buffer.from(`${Buffer.from(entryBytes(299)).toString()}Extra: 1\n`)
      const entries = parseBundle(await feed.file('e1/tile/entries/001.p/44'), 44)
      return {
        'e1/checkpoint': feed.sign({ size: SIZE, rootHash: rootOf(SIZE, bad) }),
        'e1/tile/entries/001.p/44': formatBundle([...entries.slice(0, 43), bad]),
      }
    },
    reason: /entry 299 of the log: entry: line 7: expected the end/,
  },
]

for (const { title, files, reason, outcome = 'failed' } of ATTACKS) {
  test(`refuses ${title}`, async (t) => {
    const feed = await testFeed(t)
    const shown: Record<string, Uint8Array | undefined> = {}
    const hostile: FeedSource = {
      id: 'hostile',
      fetch: (path, options) => feed.source('x', shown).fetch(path, options),
    }
    const { follower, dump, lines } = await testFollower(t, feed, [hostile])
    await feed.publisher.append(mappings(0, KNOWN), { signal: never() })
    await follower.sync({ signal: never() })
    const before = dump()
    await feed.publisher.append(mappings(KNOWN, SIZE), { signal: never() })
    Object.assign(shown, await files(feed))
    const [result] = await follower.sync({ signal: never() })
    assert.equal(result?.outcome, outcome)
    assert.match(result.problems.join('\n'), reason)
    assert.equal(dump(), before)
    assert.equal(follower.status()[0]?.size, KNOWN)
    if (outcome === 'failed') {
      assert.ok(
        lines.some(
          ({ level, fields }) =>
            level === 'warn' && reason.test(JSON.stringify(fields).replaceAll('\\"', '"')),
        ),
      )
    }
  })
}

test('one honest source among hostile ones is enough', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, SIZE), { signal: never() })
  const sources: FeedSource[] = [
    { id: 'dead', fetch: () => Promise.reject(new Error('connection refused')) },
    { id: 'empty', fetch: async () => undefined },
    { id: 'endless', fetch: async () => new Uint8Array(2 ** 25) },
    feed.source('no bundles', { 'e1/tile/entries/000': undefined, 'e1/tile/entries/001.p/44': undefined }),
    feed.source('honest'),
  ]
  const { follower } = await testFollower(t, feed, sources)
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
  assert.equal(result.size, SIZE)
  const [dead, empty, endless] = [
    'dead: root/1: connection refused',
    'empty: root/1 is not there',
    'endless: root/1: expected at most 65536 bytes, got 33554432',
  ]
  for (const problem of [dead, empty, endless]) assert.ok(result.problems.includes(problem), problem)
})

test('D2 nine minutes in the future are taken', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 3), { signal: never() })
  const head = feed.sign({ size: 3, rootHash: rootOf(3) }, T0 + 540)
  const { follower } = await testFollower(t, feed, [feed.source('early', { 'e1/checkpoint': head })])
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
})

test('D10 a source that dies half-way leaves the old state, and the next one finishes', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 100), { signal: never() })
  let alive = true
  const dying: FeedSource = {
    id: 'dying',
    fetch: async (path, options) => {
      if (path === 'e1/tile/entries/003' && !alive) throw new Error('connection reset')
      return feed.source().fetch(path, options)
    },
  }
  const { follower, dump } = await testFollower(t, feed, [dying])
  await follower.sync({ signal: never() })
  const before = dump()
  alive = false
  await feed.publisher.append(mappings(100, 1500), { signal: never() })
  const [failed] = await follower.sync({ signal: never() })
  assert.equal(failed?.outcome, 'failed')
  assert.match(failed.problems.join(), /dying: e1\/tile\/entries\/003: connection reset/)
  assert.equal(dump(), before)
  alive = true
  const [done] = await follower.sync({ signal: never() })
  assert.equal(done?.newEntries, 1400)
})

test('what a crash left staged is invisible, and gone with the next cycle', async (t) => {
  const feed = await testFeed(t)
  const { follower, db, dump } = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append(mappings(0, 300), { signal: never() })
  await follower.sync({ signal: never() })
  const leftover = mapping(9999)
  db.prepare('INSERT INTO feed_entry VALUES (1, 300, ?, ?)').run(
    hashPartOf(leftover.storePath),
    entryBytes(9999),
  )
  db.prepare('INSERT INTO feed_subtree VALUES (1, 0, 1, ?)').run(seed(1))
  const [source] = follower.sources()
  assert.equal(await source?.lookup(hashPartOf(leftover.storePath), { signal: never() }), undefined)
  assert.equal(await follower.files.read(NAME, 'e1/tile/entries/001.p/45'), undefined)
  await feed.publisher.append(mappings(300, 600), { signal: never() })
  await follower.sync({ signal: never() })
  const clean = await testFollower(t, feed, [feed.source()])
  await clean.follower.sync({ signal: never() })
  assert.equal(dump(), clean.dump())
})

test('an aborted cycle changes nothing', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 600), { signal: never() })
  const controller = new AbortController()
  const source: FeedSource = {
    id: 'slow',
    fetch: async (path, options) => {
      if (path === 'e1/tile/entries/001') {
        controller.abort(new Error('shutting down'))
        await new Promise(() => undefined)
      }
      return feed.source().fetch(path, options)
    },
  }
  const { follower, db } = await testFollower(t, feed, [source])
  await assert.rejects(follower.sync({ signal: controller.signal }), /shutting down/)
  assert.equal(db.prepare('SELECT count(*) AS n FROM feed_entry').get()?.['n'], 0)
  assert.equal(follower.status()[0]?.state, 'never-synced')
})

interface Fork {
  title: string
  /** What the second source shows, after 290 entries were accepted. */
  size: number
  rootHash: Uint8Array
}

const FORKS: Fork[] = [
  { title: 'the accepted size', size: KNOWN, rootHash: seed(1) },
  { title: 'a smaller size', size: 200, rootHash: rootOf(200, entryBytes(1)) },
  { title: 'size 256', size: 256, rootHash: rootOf(256, entryBytes(1)) },
  { title: 'the empty log', size: 0, rootHash: seed(1) },
  { title: 'the size that another source shows', size: SIZE, rootHash: rootOf(SIZE, entryBytes(1)) },
]

for (const { title, size, rootHash } of FORKS) {
  test(`D1 another root at ${title} is a fork: evidence is kept, the feed stands still and goes on answering`, async (t) => {
    const feed = await testFeed(t)
    const second: Record<string, Uint8Array> = {}
    const sources = [feed.source('honest'), feed.source('second', second)]
    const { follower, db, lines } = await testFollower(t, feed, sources)
    await feed.publisher.append(mappings(0, KNOWN), { signal: never() })
    await follower.sync({ signal: never() })
    await feed.publisher.append(mappings(KNOWN, SIZE), { signal: never() })
    const forked = feed.sign({ size, rootHash })
    second['e1/checkpoint'] = forked
    const [result] = await follower.sync({ signal: never() })
    assert.equal(result?.outcome, 'forked')
    assert.match(result.problems.join(), new RegExp(`forked at size ${size}`))
    assert.ok(lines.some(({ level }) => level === 'error'))
    const [status] = follower.status()
    assert.equal(status?.state, 'forked')
    const notes = [status.fork?.ours, status.fork?.theirs]
    assert.ok(notes.includes(Buffer.from(forked).toString()))
    assert.equal(new Set(notes).size, 2)
    delete second['e1/checkpoint']
    const size2 = status.size
    await feed.publisher.append([mapping(999)], { signal: never() })
    const [later] = await follower.sync({ signal: never() })
    assert.equal(later?.outcome, 'forked')
    assert.equal(later.size, size2)
    assert.equal(db.prepare('SELECT count(*) AS n FROM feed_fork').get()?.['n'], 1)
    const [source] = follower.sources()
    assert.ok((await source?.lookup(hashPartOf(mapping(0).storePath), { signal: never() })) !== undefined)
  })
}

test('D14 of two signed NARs of one path the newer entry is told', async (t) => {
  const feed = await testFeed(t)
  const { follower } = await testFollower(t, feed, [feed.source()])
  const older = mapping(1)
  const newer = { ...mapping(3), storePath: older.storePath }
  await feed.publisher.append([older, newer], { signal: never() })
  await follower.sync({ signal: never() })
  const [source] = follower.sources()
  const told = await source?.lookup(hashPartOf(older.storePath), { signal: never() })
  assert.equal(told?.info.narHash, newer.narHash)
})

test('entries of another store are refused', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append([mapping(0)], { signal: never() })
  const { follower } = await testFollower(t, feed, [feed.source()], { storeDir: '/gnu/store' })
  const [result] = await follower.sync({ signal: never() })
  assert.match(result?.problems.join() ?? '', /entry 0 of the log: .*expected one in \/gnu\/store/)
})

test('no change of a checkpoint or bundle is ever accepted', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append(mappings(0, 40), { signal: never() })
  const files = {
    'e1/checkpoint': await feed.file('e1/checkpoint'),
    'e1/tile/entries/000.p/40': await feed.file('e1/tile/entries/000.p/40'),
  }
  const shown: Record<string, Uint8Array> = {}
  const { follower, dump } = await testFollower(t, feed, [feed.source('hostile', shown)])
  shown['e1/checkpoint'] = feed.sign({ size: 0, rootHash: createHash('sha256').digest() }, T0 - 1)
  await follower.sync({ signal: never() })
  const before = dump()
  const mutation = fc.record({
    path: fc.constantFrom(...(Object.keys(files) as (keyof typeof files)[])),
    at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    remove: fc.nat({ max: 3 }),
    insert: fc.uint8Array({ maxLength: 3 }),
  })
  await fc.assert(
    fc.asyncProperty(mutation, async ({ path, at, remove, insert }) => {
      const bytes = files[path]
      const start = Math.floor(at * bytes.length)
      const changed = Buffer.concat([bytes.subarray(0, start), insert, bytes.subarray(start + remove)])
      fc.pre(!changed.equals(bytes))
      Object.assign(shown, files, { [path]: changed })
      const [result] = await follower.sync({ signal: never() })
      assert.equal(result?.outcome, 'failed')
      assert.equal(dump(), before)
    }),
    { numRuns: 150 },
  )
  Object.assign(shown, files)
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
})
