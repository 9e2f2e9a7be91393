import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FeedFormatError, FeedKeyError, FeedSignatureError } from '../../src/feed/errors.ts'
import { formatNote, parseNote, signText, verifyNote } from '../../src/feed/note.ts'
import {
  COSIGNER_KEY,
  formatFeedSecretKey,
  formatVkey,
  generateFeedKey,
  LOG_KEY,
  parseFeedSecretKey,
  parseVkey,
} from '../../src/feed/vkey.ts'
import { seed } from './kit.ts'

/** The known answer of Go's golang.org/x/mod/sumdb/note (documentation and tests), which C2SP signed-note describes. */
const GO = {
  vkey: 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
  secret: 'PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz',
  note:
    'If you think cryptography is the answer to your problem,\n' +
    "then you don't know what your problem is.\n\n" +
    '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n',
}
/** The real key of Go's checksum database. */
const SUM_GOLANG_ORG = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8'

test('signs and verifies as Go does', () => {
  const note = parseNote(Buffer.from(GO.note))
  assert.equal(verifyNote(note, [parseVkey(GO.vkey)]).length, 1)
  const key = parseFeedSecretKey(GO.secret)
  assert.equal(formatVkey(key.publicKey), GO.vkey)
  assert.equal(formatFeedSecretKey(key), GO.secret)
  const signed = formatNote({ text: note.text, signatures: [signText(note.text, key, 0)] })
  assert.equal(Buffer.from(signed).toString(), GO.note)
})

test('reads a vkey whose base64 has plus signs', () => {
  assert.equal(formatVkey(parseVkey(SUM_GOLANG_ORG)), SUM_GOLANG_ORG)
})

const LOG = generateFeedKey('feed.example/main/e1', LOG_KEY, () => seed(1))
const BEAT = generateFeedKey('feed.example/main/heartbeat', COSIGNER_KEY, () => seed(2))
const VKEY = formatVkey(LOG.publicKey)

for (const [title, text] of [
  ['nothing', ''],
  ['no key id', 'a.example+AYqI'],
  ['another key id', VKEY.replace(/\+[0-9a-f]{8}\+/, '+00000000+')],
  ['a key id in upper case', VKEY.replace(/\+[0-9a-f]{8}\+/, (id) => id.toUpperCase())],
  ['a space in the name', VKEY.replace('feed', 'fe ed')],
  ['an empty name', VKEY.replace('feed.example/main/e1', '')],
  ['key type 2', VKEY.replace('+AY', '+Ao')],
  ['31 bytes', `a.example+00000000+${Buffer.alloc(32, 1).toString('base64')}`],
  ['base64 without padding', `${VKEY}=`],
  ['a trailing newline', `${VKEY}\n`],
  // The identity point: any message verifies under it (security 0.10).
  [
    'a point of small order',
    `a+37c54af3+${Buffer.concat([Buffer.of(1, 1), Buffer.alloc(31)]).toString('base64')}`,
  ],
] as const) {
  test(`refuses a vkey with ${title}`, () => {
    assert.throws(() => parseVkey(text), FeedFormatError)
  })
}

for (const text of [
  '',
  GO.vkey,
  GO.secret.replace('c74f20a3', 'c74f20a4'),
  GO.secret.slice(0, -4),
  `${GO.secret}\n\n`,
]) {
  test(`refuses the private key ${JSON.stringify(text.slice(0, 36))}… of ${text.length} characters, and does not tell it`, () => {
    assert.throws(
      () => parseFeedSecretKey(text),
      (error: Error) => error instanceof FeedKeyError && !error.message.includes('AYEKF'),
    )
  })
}

test('a secret key does not show in JSON', () => {
  assert.ok(!JSON.stringify(LOG).includes('seed'))
})

test('the text may have empty lines: the last one parts it from the signatures', () => {
  const text = 'one\n\n\ntwo\n\n'
  const bytes = formatNote({ text, signatures: [signText(text, LOG, 0)] })
  assert.equal(parseNote(bytes).text, text)
  assert.equal(verifyNote(parseNote(bytes), [LOG.publicKey]).length, 1)
})

test('signatures of unknown keys are passed over, by name and id', () => {
  const text = 'text\n'
  const good = signText(text, LOG, 0)
  const others = [
    { ...good, name: 'other.example', bytes: seed(1) },
    { ...good, id: good.id ^ 1, bytes: seed(1) },
  ]
  const note = { text, signatures: [...others, good] }
  assert.deepEqual(verifyNote(note, [LOG.publicKey]), [{ key: LOG.publicKey }])
  assert.throws(() => verifyNote({ text, signatures: others }, [LOG.publicKey]), FeedSignatureError)
})

test('a cosignature is signed with its time, and is no signature of the text alone', () => {
  const text = 'text\n'
  const signature = signText(text, BEAT, 1_790_000_000)
  assert.deepEqual(verifyNote({ text, signatures: [signature] }, [BEAT.publicKey]), [
    { key: BEAT.publicKey, time: 1_790_000_000 },
  ])
  const plain = generateFeedKey(BEAT.publicKey.name, LOG_KEY, () => seed(2))
  const bare = { ...signText(text, plain, 0), id: BEAT.publicKey.id }
  assert.throws(() => verifyNote({ text, signatures: [bare] }, [BEAT.publicKey]), FeedSignatureError)
})

test('16 signatures and more are taken', () => {
  const text = 'text\n'
  const others = Array.from({ length: 31 }, (_, id) => ({ name: 'w.example', id, bytes: seed(1) }))
  const bytes = formatNote({ text, signatures: [...others, signText(text, LOG, 0)] })
  assert.equal(verifyNote(parseNote(bytes), [LOG.publicKey]).length, 1)
})

test('any text without control characters reads back', () => {
  const line = fc.string({ unit: 'binary' }).map((text) => text.replaceAll(/\p{Cc}|\p{Cs}/gu, ''))
  fc.assert(
    fc.property(fc.array(line, { minLength: 1 }), (lines) => {
      const text = `${lines.join('\n')}\n`
      fc.pre(text !== '\n')
      const bytes = formatNote({ text, signatures: [signText(text, LOG, 0)] })
      assert.equal(parseNote(bytes).text, text)
      assert.equal(verifyNote(parseNote(bytes), [LOG.publicKey]).length, 1)
    }),
  )
})

test('no change of a signed note verifies', () => {
  const text = 'feed.example/main/e1\n3\nroot\n'
  const bytes = Buffer.from(formatNote({ text, signatures: [signText(text, LOG, 0)] }))
  fc.assert(
    fc.property(
      fc.nat(bytes.length - 1),
      fc.nat(4),
      fc.uint8Array({ maxLength: 4 }),
      (at, remove, insert) => {
        const changed = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)])
        fc.pre(!changed.equals(bytes))
        assert.throws(
          () => verifyNote(parseNote(changed), [LOG.publicKey]),
          (error) => error instanceof FeedFormatError || error instanceof FeedSignatureError,
        )
      },
    ),
    { numRuns: 500 },
  )
})
