/** The vector of docs/spec/feed.md, read from there: what the page says is what the code does. */
import assert from 'node:assert/strict'
import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { formatBundle } from '../../src/feed/bundle.ts'
import { openCheckpoint, signCheckpoint } from '../../src/feed/checkpoint.ts'
import { formatEntry, parseEntry } from '../../src/feed/entry.ts'
import { createCompactRange, leafHash } from '../../src/feed/merkle.ts'
import { openFirstRootDocument, signRootDocument } from '../../src/feed/root-document.ts'
import { COSIGNER_KEY, formatVkey, generateFeedKey, LOG_KEY } from '../../src/feed/vkey.ts'
import type { NarInfoCandidate } from '../../src/source.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { NAME, never, seed, STORE_DIR, T0, testClock, testFollower } from './kit.ts'

const PAGE = readFileSync(new URL('../../docs/spec/feed.md', import.meta.url), 'utf8')
const BLOCKS = [...PAGE.matchAll(/^```(.+)\n([^]*?)^```$/gm)].map(([, title = '', body = '']) => ({
  title,
  bytes: Buffer.from(body),
}))

function block(title: string): Buffer {
  const found = BLOCKS.find((candidate) => candidate.title === title)
  assert.ok(found !== undefined, `docs/spec/feed.md has no block "${title}"`)
  return found.bytes
}

const ENTRIES = BLOCKS.filter(({ title }) => title.startsWith('entry '))
const [, rootSeed = '', logSeed = '', heartbeatSeed = ''] =
  /root 0x([0-9a-f]{2}), log 0x([0-9a-f]{2}), heartbeat 0x([0-9a-f]{2})/.exec(PAGE) ?? []
const root = generateFeedKey(`${NAME}/root`, LOG_KEY, () => seed(Number.parseInt(rootSeed, 16)))
const log = generateFeedKey(`${NAME}/e1`, LOG_KEY, () => seed(Number.parseInt(logSeed, 16)))
const heartbeat = generateFeedKey(`${NAME}/heartbeat`, COSIGNER_KEY, () =>
  seed(Number.parseInt(heartbeatSeed, 16)),
)

test('the page has three entries, and their leaf hashes are right', () => {
  assert.equal(ENTRIES.length, 3)
  for (const { title, bytes } of ENTRIES) {
    assert.equal(title.split(' ').at(-1), Buffer.from(leafHash(bytes)).toString('hex'))
    assert.ok(bytes.equals(formatEntry(parseEntry(bytes, STORE_DIR), STORE_DIR)))
  }
})

test('the seeds give the root document and the checkpoint, byte for byte', () => {
  const doc = openFirstRootDocument(block('root/1'), { name: NAME, rootKey: root.publicKey })
  assert.ok(block('root/1').equals(signRootDocument(doc, [root])))
  assert.equal(formatVkey(doc.log), formatVkey(log.publicKey))
  assert.equal(formatVkey(doc.heartbeat), formatVkey(heartbeat.publicKey))
  const range = createCompactRange()
  for (const { bytes } of ENTRIES) range.append(leafHash(bytes))
  const checkpoint = { origin: `${NAME}/e1`, size: 3, rootHash: range.root() }
  assert.ok(block('e1/checkpoint').equals(signCheckpoint(checkpoint, { log, heartbeat }, T0)))
  assert.equal(openCheckpoint(block('e1/checkpoint'), doc).time, T0)
})

/** With none of our own code: what somebody else would write from the page and the C2SP texts. */
test('the checkpoint verifies with node:crypto alone', () => {
  const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest()
  const [a, b, c] = ENTRIES.map(({ bytes }) => sha256(Buffer.of(0), bytes))
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  const node = (left: Uint8Array, right: Uint8Array) => sha256(Buffer.of(1), left, right)
  const [body = '', signatures = ''] = block('e1/checkpoint').toString().split('\n\n')
  assert.equal(body, `narswarm.example/main/e1\n3\n${node(node(a, b), c).toString('base64')}`)
  const vkeys = block('root/1').toString()
  const messages: [string, number, (blob: Buffer) => string][] = [
    ['e1', 4, () => `${body}\n`],
    ['heartbeat', 12, (blob) => `cosignature/v1\ntime ${blob.readBigUInt64BE(4)}\n${body}\n`],
  ]
  for (const [purpose, skip, message] of messages) {
    const [, id = '', key = ''] = new RegExp(`main/${purpose}\\+([0-9a-f]{8})\\+(\\S+)\n`).exec(vkeys) ?? []
    const typed = Buffer.from(key, 'base64')
    assert.equal(
      sha256(Buffer.from(`${NAME}/${purpose}\n`), typed)
        .subarray(0, 4)
        .toString('hex'),
      id,
    )
    const line = signatures.split('\n').find((text) => text.startsWith(`— ${NAME}/${purpose} `)) ?? ''
    const blob = Buffer.from(line.split(' ')[2] ?? '', 'base64')
    assert.equal(blob.subarray(0, 4).toString('hex'), id)
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), typed.subarray(1)])
    const publicKey = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    assert.ok(verify(null, Buffer.from(message(blob)), publicKey, blob.subarray(skip)), purpose)
  }
})

test('a follower takes the feed of the page', async (t) => {
  const files: Record<string, Uint8Array> = {
    'root/1': block('root/1'),
    'e1/checkpoint': block('e1/checkpoint'),
    'e1/tile/entries/000.p/3': formatBundle(ENTRIES.map(({ bytes }) => bytes)),
  }
  const feed = { rootKey: formatVkey(root.publicKey), clock: testClock(T0 + 60) }
  const { follower } = await testFollower(t, feed, [{ id: 'page', fetch: async (path) => files[path] }])
  const [result] = await follower.sync({ signal: never() })
  assert.deepEqual(result?.problems, [])
  const [source] = follower.sources()
  const found: (NarInfoCandidate | undefined)[] = []
  for (const { bytes } of ENTRIES.slice(0, 2)) {
    const entry = parseEntry(bytes, STORE_DIR)
    assert.ok(entry.kind === 'mapping')
    found.push(await source?.lookup(hashPartOf(entry.storePath), { signal: never() }))
  }
  assert.deepEqual(
    found.map((candidate) => candidate?.info.narSize),
    [undefined, 2_000_000],
    'the third entry withdraws the first',
  )
})
