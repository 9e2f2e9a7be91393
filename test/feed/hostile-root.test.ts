/** Root documents as nobody honest would show them. Each: refused, with its reason, and the stored state as it was. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseFeedName } from '../../src/feed/feed-name.ts'
import { formatNote, parseNote, signText } from '../../src/feed/note.ts'
import { formatRootDocument, parseRootDocument, signRootDocument } from '../../src/feed/root-document.ts'
import { COSIGNER_KEY, generateFeedKey, LOG_KEY } from '../../src/feed/vkey.ts'
import { mapping, NAME, never, seed, T0, testFeed, testFollower, type TestFeed } from './kit.ts'

const ORIGIN = `${NAME}/e1`

const rootDocumentCases: [string, (feed: TestFeed) => Promise<Uint8Array>, RegExp][] = [
  [
    'signed by another key',
    async (feed) => resign(feed, (doc) => doc, 'stranger'),
    /expected a signature by/,
  ],
  [
    'of another feed',
    async (feed) => {
      const name = parseFeedName('narswarm.example/other')
      const log = generateFeedKey(`${name}/e1`, LOG_KEY, () => seed(0x67)).publicKey
      return resign(feed, (doc) => ({ ...doc, name, origin: `${name}/e1`, log }))
    },
    /expected feed "narswarm.example\/main"/,
  ],
  [
    'with threshold 0',
    async (feed) => rewrite(feed, (text) => text.replace('root-threshold 1', 'root-threshold 0')),
    /root-threshold: expected a decimal from 1/,
  ],
  [
    'with a threshold above its keys',
    async (feed) => rewrite(feed, (text) => text.replace('root-threshold 1', 'root-threshold 2')),
    /root-threshold: expected at most 1, got 2/,
  ],
  [
    'of version 2',
    async (feed) => rewrite(feed, (text) => text.replace('version 1', 'version 2')),
    /expected version 1, got 2: rotation is not supported by this version/,
  ],
  [
    'with its lines in another order',
    async (feed) => rewrite(feed, (text) => text.replace(/(created \d+\n)(expires \d+\n)/, '$2$1')),
    /line 4: expected "created …"/,
  ],
  [
    'with a line twice',
    async (feed) => rewrite(feed, (text) => text.replace(/(quorum 0\n)/, '$1$1')),
    /expected "max-age …"/,
  ],
  ['with a line more', async (feed) => rewrite(feed, (text) => `${text}extra 1\n`), /expected the end/],
  [
    'with another header',
    async (feed) => rewrite(feed, (text) => text.replace('root/v1', 'root/v2')),
    /line 1: expected "narswarm\/root\/v1"/,
  ],
  [
    'with another layout',
    async (feed) => rewrite(feed, (text) => text.replace('unixfs-v1-2025', 'other')),
    /layout unixfs-v1-2025/,
  ],
  [
    'with one key for two purposes',
    async (feed) => resign(feed, (doc) => ({ ...doc, witnesses: [doc.heartbeat] })),
    /one key stands for two purposes/,
  ],
  [
    'with a quorum above its witnesses',
    async (feed) => rewrite(feed, (text) => text.replace('quorum 0', 'quorum 1')),
    /quorum: expected at most 0, got 1/,
  ],
  [
    'that expires before it was made',
    async (feed) => rewrite(feed, (text) => text.replace(/expires \d+/, 'expires 1')),
    /expires: expected a decimal from/,
  ],
  [
    'with an origin of another feed',
    async (feed) => rewrite(feed, (text) => text.replace(`log ${ORIGIN} `, 'log other.example/x/e1 ')),
    /log: expected an origin/,
  ],
]

type Doc = ReturnType<typeof parseRootDocument>

async function ownDoc(feed: TestFeed): Promise<Doc> {
  return parseRootDocument(parseNote(await feed.file('root/1')).text)
}
async function rewrite(feed: TestFeed, edit: (text: string) => string): Promise<Uint8Array> {
  const text = edit(formatRootDocument(await ownDoc(feed)))
  return formatNote({ text, signatures: [signText(text, feed.keys.root, T0)] })
}
async function resign(feed: TestFeed, edit: (doc: Doc) => Doc, by?: 'stranger'): Promise<Uint8Array> {
  const key = by === undefined ? feed.keys.root : generateFeedKey(`${NAME}/root`, LOG_KEY, () => seed(0x66))
  return signRootDocument(edit(await ownDoc(feed)), [key])
}

for (const [title, make, reason] of rootDocumentCases) {
  test(`D7 refuses a root document ${title}`, async (t) => {
    const feed = await testFeed(t)
    const { follower, dump } = await testFollower(t, feed, [
      feed.source('hostile', { 'root/1': await make(feed) }),
    ])
    const before = dump()
    const [result] = await follower.sync({ signal: never() })
    assert.equal(result?.outcome, 'failed')
    assert.match(result.problems.join('\n'), reason)
    assert.equal(dump(), before)
  })
}

test('D4, D7 a threshold counts keys', async (t) => {
  const feed = await testFeed(t)
  const second = generateFeedKey(`${NAME}/root`, LOG_KEY, () => seed(0x31))
  const doc = {
    ...(await ownDoc(feed)),
    rootThreshold: 2,
    rootKeys: [feed.keys.root.publicKey, second.publicKey],
  }
  const shown: Record<string, Uint8Array> = {}
  const { follower } = await testFollower(t, feed, [feed.source('folder', shown)])
  shown['root/1'] = signRootDocument(doc, [feed.keys.root])
  const [one] = await follower.sync({ signal: never() })
  assert.match(one?.problems.join() ?? '', /expected signatures by 2 root keys, got 1/)
  shown['root/1'] = signRootDocument(doc, [feed.keys.root, feed.keys.root])
  const [twice] = await follower.sync({ signal: never() })
  assert.match(twice?.problems.join() ?? '', /two signatures by one key/)
  shown['root/1'] = signRootDocument(doc, [feed.keys.root, second])
  const [both] = await follower.sync({ signal: never() })
  assert.equal(both?.outcome, 'updated')
})

test('a quorum of witnesses is asked for', async (t) => {
  const feed = await testFeed(t)
  const witness = generateFeedKey('witness.example/w1', COSIGNER_KEY, () => seed(0x32))
  const doc = { ...(await ownDoc(feed)), witnesses: [witness.publicKey], quorum: 1 }
  const shown: Record<string, Uint8Array> = { 'root/1': signRootDocument(doc, [feed.keys.root]) }
  const { follower } = await testFollower(t, feed, [feed.source('folder', shown)])
  const [without] = await follower.sync({ signal: never() })
  assert.match(without?.problems.join() ?? '', /expected signatures by 1 witnesses, got 0/)
  const { text, signatures } = parseNote(await feed.file('e1/checkpoint'))
  shown['e1/checkpoint'] = formatNote({ text, signatures: [...signatures, signText(text, witness, T0)] })
  const [result] = await follower.sync({ signal: never() })
  assert.equal(result?.outcome, 'updated')
})

test('D7 nothing is learned past the expiry of the root document', async (t) => {
  const feed = await testFeed(t, { lifetimeSeconds: 3600 })
  const { follower, dump } = await testFollower(t, feed, [feed.source()])
  await feed.publisher.append([mapping(0)], { signal: never() })
  await follower.sync({ signal: never() })
  const before = dump()
  feed.clock.seconds += 3600
  await feed.publisher.append([mapping(1)], { signal: never() })
  const [result] = await follower.sync({ signal: never() })
  assert.match(result?.problems.join() ?? '', /root document: expired on/)
  assert.equal(dump(), before)
  assert.equal(follower.status()[0]?.state, 'expired')
})

test('D7 a next root document stops the feed when both root keys signed it, and is passed over otherwise', async (t) => {
  const feed = await testFeed(t)
  await feed.publisher.append([mapping(0)], { signal: never() })
  const own = await ownDoc(feed)
  const fresh = generateFeedKey(`${NAME}/root`, LOG_KEY, () => seed(0x33))
  const next = { ...own, version: 2, rootKeys: [fresh.publicKey] }
  const shown: Record<string, Uint8Array> = {}
  const { follower } = await testFollower(t, feed, [feed.source('folder', shown)])
  const junk = [
    signRootDocument(next, [fresh]),
    signRootDocument(next, [feed.keys.root]),
    signRootDocument({ ...next, version: 3 }, [feed.keys.root, fresh]),
    Buffer.from('junk'),
  ]
  for (const bytes of junk) {
    shown['root/2'] = bytes
    const [result] = await follower.sync({ signal: never() })
    assert.notEqual(result?.outcome, 'failed')
  }
  shown['root/2'] = signRootDocument(next, [feed.keys.root, fresh])
  const [stopped] = await follower.sync({ signal: never() })
  assert.match(stopped?.problems.join() ?? '', /rotation is not supported by this version/)
  delete shown['root/2']
  const [still] = await follower.sync({ signal: never() })
  assert.match(still?.problems.join() ?? '', /rotation is not supported by this version/)
})
