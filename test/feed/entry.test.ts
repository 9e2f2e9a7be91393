import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { nodeCid, rawCid } from '../../src/dag/cid.ts'
import { EntryTooLargeError, formatEntry, parseEntry, type Entry } from '../../src/feed/entry.ts'
import { FeedFormatError } from '../../src/feed/errors.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { parseSignature } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { mapping, MIB, STORE_DIR } from './kit.ts'

const refs = [mapping(100).storePath, mapping(101).storePath].sort()
const full = mapping(1, {
  references: refs,
  signatures: [1, 2].map((n) => parseSignature(`key-${n}:${Buffer.alloc(64, n).toString('base64')}`)),
})
const FULL = Buffer.from(formatEntry(full, STORE_DIR)).toString()
const WITHDRAWAL = `Withdraw: ${hashPartOf(full.storePath)}\nNarHash: sha256:${full.narHash}\nReason: legal\n`
const ROOT = `Root: 2 sha256:${full.narHash}\n`
const SNAPSHOT = `Snapshot: ${full.cid.toString()}\nSize: 1000\n`

const parse = (text: string | Uint8Array) => parseEntry(Buffer.from(text), STORE_DIR)

test('an entry is text in the order of the specification', () => {
  const [a, b] = refs
  assert.deepEqual(FULL.split('\n'), [
    `StorePath: /nix/store/${full.storePath}`,
    `NarHash: sha256:${full.narHash}`,
    `NarSize: ${full.narSize}`,
    `References: ${a} ${b}`,
    `Sig: key-1:${Buffer.alloc(64, 1).toString('base64')}`,
    `Sig: key-2:${Buffer.alloc(64, 2).toString('base64')}`,
    `CID: ${full.cid.toString()}`,
    '',
  ])
})

for (const text of [
  FULL,
  WITHDRAWAL,
  ROOT,
  SNAPSHOT,
  Buffer.from(formatEntry(mapping(2), STORE_DIR)).toString(),
]) {
  test(`reads and writes ${JSON.stringify(text.slice(0, 30))}`, () => {
    assert.equal(Buffer.from(formatEntry(parse(text), STORE_DIR)).toString(), text)
  })
}

test('references may name the path itself', () => {
  const self = { ...full, references: [full.storePath] }
  const entry = parseEntry(formatEntry(self, STORE_DIR), STORE_DIR)
  assert.ok(entry.kind === 'mapping')
  assert.deepEqual(entry.references, [full.storePath])
})

test('what is written is sorted and unique, whatever was given', () => {
  const shuffled = {
    ...full,
    references: [...refs, ...refs].toReversed(),
    signatures: full.signatures.toReversed(),
  }
  assert.equal(Buffer.from(formatEntry(shuffled, STORE_DIR)).toString(), FULL)
})

const line = (name: string) => FULL.split('\n').find((text) => text.startsWith(`${name}: `)) ?? ''
const edit = (from: string | RegExp, to: string) => FULL.replace(from, to)
const sigs = (count: number) =>
  Array.from({ length: count }, (_, n) => `Sig: k${n}:${Buffer.alloc(64, n).toString('base64')}\n`).join('')

const REFUSED: [string, string | Uint8Array, RegExp][] = [
  ['nothing', '', /expected 1 to 65535 bytes, got 0/],
  ['65,536 bytes', new Uint8Array(65_536), /expected 1 to 65535 bytes, got 65536/],
  ['invalid UTF-8', Buffer.concat([Buffer.from(FULL), Buffer.of(0xff)]), /expected UTF-8/],
  ['a byte order mark', `\ufeff${FULL}`, /line 1: expected StorePath, Withdraw, Root or Snapshot/],
  ['CRLF', FULL.replaceAll('\n', '\r\n'), /line 1: expected a valid StorePath/],
  ['a NUL in a name', edit('package-1', 'pack\0age'), /line 1: expected a valid StorePath/],
  ['a slash in a name', edit('package-1', 'package/1'), /line 1/],
  ['no final newline', FULL.slice(0, -1), /line 8: expected the end/],
  ['a blank line at the end', `${FULL}\n`, /line 8: expected the end/],
  ['a blank line inside', edit('\nNarSize', '\n\nNarSize'), /line 3: expected NarSize/],
  ['a space at the end of a line', edit(/(NarSize: \d+)/, '$1 '), /line 3: expected a valid NarSize/],
  ['no space after the colon', edit('NarSize: ', 'NarSize:'), /line 3: expected NarSize/],
  ['two spaces after the colon', edit('NarSize: ', 'NarSize:  '), /line 3: expected a valid NarSize/],
  ['trailing bytes', `${FULL}x`, /line 8: expected the end/],
  ['another entry behind it', `${FULL}${WITHDRAWAL}`, /line 8: expected the end/],
  ['an unknown line', edit('CID:', 'Deriver: x\nCID:'), /line 7: expected CID/],
  ['a key of Object.prototype', edit('CID:', '__proto__: x\nCID:'), /line 7: expected CID/],
  ['lower case', edit('NarHash', 'narHash'), /line 2: expected NarHash/],
  ...['StorePath', 'NarHash', 'NarSize', 'References', 'CID'].flatMap((name): [string, string, RegExp][] => [
    [`no ${name}`, edit(`${line(name)}\n`, ''), /line \d: expected/],
    [`two ${name}`, edit(`${line(name)}\n`, `${line(name)}\n${line(name)}\n`), /line \d: expected/],
  ]),
  ['no Sig', edit(/Sig: .*\n/g, ''), /line 5: expected Sig/],
  ['nine Sigs', edit(/(Sig: .*\n)+/, sigs(9)), /expected 1 to 8 lines, got 9/],
  ['one Sig twice', edit(/(Sig: .*\n)/, '$1$1'), /not in canonical form/],
  ['Sigs in another order', edit(/(Sig: .*\n)(Sig: .*\n)/, '$2$1'), /not in canonical form/],
  ['a Sig of 63 bytes', edit(/Sig: .*\n/, `Sig: k:${Buffer.alloc(63).toString('base64')}\n`), /valid Sig/],
  ['a Sig without padding', edit(/==\n/, '\n'), /not in canonical form/],
  ['lines in another order', edit(/(NarHash: .*\n)(NarSize: .*\n)/, '$2$1'), /line 2: expected NarHash/],
  ['references in another order', edit(refs.join(' '), refs.toReversed().join(' ')), /not in canonical form/],
  ['one reference twice', edit(refs.join(' '), [refs[0], ...refs].join(' ')), /not in canonical form/],
  ['two spaces between references', edit(refs.join(' '), refs.join('  ')), /valid References/],
  ['an absolute reference', edit(refs[0] ?? '', `/nix/store/${refs[0]}`), /valid References/],
  ['another store', edit('/nix/store/', '/gnu/store/'), /expected one in \/nix\/store/],
  ['a path below a store path', edit('-package-1', '-package-1/bin'), /line 1/],
  ...['0', '00', '01', '+1', '-1', '1.0', '1e3', '0x1', '', ' 1', '9007199254740992', '1_000', '٣'].map(
    (size): [string, string, RegExp] => [
      `NarSize ${JSON.stringify(size)}`,
      edit(/NarSize: .*/, `NarSize: ${size}`),
      /line 3: expected a valid NarSize/,
    ],
  ),
  ['NarSize above 1 TiB', edit(/NarSize: .*/, `NarSize: ${2 ** 40 + 1}`), /expected at most 1099511627776/],
  [
    'NarHash in base 16',
    edit(/NarHash: .*/, `NarHash: sha256:${'a'.repeat(64)}`),
    /line 2: expected a valid NarHash/,
  ],
  ['NarHash of sha512', edit('sha256:', 'sha512:'), /line 2: expected a valid NarHash/],
  ['NarHash with e, o, u or t', edit(/NarHash: .*/, `NarHash: sha256:${'e'.repeat(52)}`), /valid NarHash/],
  ['NarHash with padding bits', edit(/NarHash: .*/, `NarHash: sha256:z${'0'.repeat(51)}`), /valid NarHash/],
  ['CIDv0', edit(/CID: .*/, 'CID: QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG'), /valid CID/],
  ['a CID in upper case', edit(/CID: .*/, `CID: ${full.cid.toString().toUpperCase()}`), /valid CID/],
  ['an identity CID', edit(/CID: .*/, 'CID: bafkqaaa'), /valid CID/],
  [
    'a raw CID for a large NAR',
    edit(/CID: .*/, `CID: ${rawCid(full.cid.multihash.digest).toString()}`),
    /CID: expected a dag-pb node for NarSize/,
  ],
  [
    'a dag-pb CID for a small NAR',
    edit(/NarSize: .*/, `NarSize: ${MIB}`),
    /CID: expected bafkrei\w+ for NarSize 1048576/,
  ],
  ['a Reason of its own', WITHDRAWAL.replace('legal', 'because'), /line 3: expected a valid Reason/],
  ['a withdrawal without Reason', WITHDRAWAL.replace('Reason: legal\n', ''), /line 3: expected Reason/],
  ['a withdrawal of a short hash part', WITHDRAWAL.replace(/(Withdraw: .*)./, '$1'), /line 1/],
  ['root version 0', ROOT.replace('Root: 2', 'Root: 0'), /valid Root/],
  ['a root without hash', 'Root: 2\n', /valid Root/],
  ['a root of three words', ROOT.replace('\n', ' x\n'), /valid Root/],
  ['a snapshot of size 01', SNAPSHOT.replace('1000', '01'), /valid Size/],
]

for (const [title, bytes, reason] of REFUSED) {
  test(`refuses ${title}`, () => {
    assert.throws(
      () => parse(bytes),
      (error: Error) => {
        assert.ok(error instanceof FeedFormatError, String(error))
        assert.match(error.message, reason)
        assert.ok(error.message.length < 600)
        return true
      },
    )
  })
}

test('takes eight signatures', () => {
  assert.equal(parse(edit(/(Sig: .*\n)+/, sigs(8))).kind, 'mapping')
})

test('takes 65,535 bytes and not one more', () => {
  const long = (count: number, last: number) => {
    const names = Array.from({ length: count }, (_, n) => {
      const name = 'x'.repeat(n === count - 1 ? last : 200)
      return parseStorePathBaseName(`${encodeNix32(Buffer.from(String(n).padStart(20, '0')))}-${name}`)
    })
    return { ...full, references: names }
  }
  const room = 65_535 - formatEntry(long(270, 1), STORE_DIR).length
  const more = Math.floor(room / 234)
  const exact = long(270 + more, 1)
  const rest = 65_535 - formatEntry(exact, STORE_DIR).length
  const bytes = formatEntry(long(270 + more, 1 + rest), STORE_DIR)
  assert.equal(bytes.length, 65_535)
  assert.equal(parseEntry(bytes, STORE_DIR).kind, 'mapping')
  assert.throws(() => formatEntry(long(270 + more, 2 + rest), STORE_DIR), EntryTooLargeError)
})

test('refuses to write what it would not read', () => {
  const wrong = { ...full, cid: rawCid(full.cid.multihash.digest) }
  assert.throws(() => formatEntry(wrong, STORE_DIR), FeedFormatError)
  assert.throws(() => formatEntry({ ...full, signatures: [] }, STORE_DIR), FeedFormatError)
})

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const storePath = fc
  .record({ hash: bytes(20), name: fc.stringMatching(/^[0-9A-Za-z+_?=][0-9A-Za-z+._?=-]{0,40}$/) })
  .map(({ hash, name }) => parseStorePathBaseName(`${encodeNix32(hash)}-${name}`))
const narHash = bytes(32).map(narHashFromDigest)
const signature = fc
  .record({ name: fc.stringMatching(/^[0-9A-Za-z._-]{1,20}$/), sig: bytes(64) })
  .map(({ name, sig }) => parseSignature(`${name}:${Buffer.from(sig).toString('base64')}`))
const mappingEntry: fc.Arbitrary<Entry> = fc
  .record({
    kind: fc.constant('mapping' as const),
    storePath,
    digest: bytes(32),
    narSize: fc.oneof(fc.integer({ min: 1, max: 3 * MIB }), fc.integer({ min: 1, max: 2 ** 40 })),
    references: fc.array(storePath, { maxLength: 8 }),
    signatures: fc.array(signature, { minLength: 1, maxLength: 8 }),
  })
  .map(({ digest, ...fields }) => ({
    ...fields,
    narHash: narHashFromDigest(digest),
    cid: fields.narSize <= MIB ? rawCid(digest) : nodeCid(digest),
  }))
const anyEntry: fc.Arbitrary<Entry> = fc.oneof(
  mappingEntry,
  fc.record({
    kind: fc.constant('withdrawal' as const),
    hashPart: storePath.map(hashPartOf),
    narHash,
    reason: fc.constantFrom('bad-cid', 'withdrawn', 'malicious', 'legal'),
  }),
  fc.record({ kind: fc.constant('root' as const), version: fc.integer({ min: 1 }), hash: narHash }),
  fc.record({
    kind: fc.constant('snapshot' as const),
    cid: bytes(32).map(nodeCid),
    size: fc.integer({ min: 1 }),
  }),
)

test('any entry reads back as what was written, in the same bytes', () => {
  fc.assert(
    fc.property(anyEntry, (entry) => {
      const written = formatEntry(entry, STORE_DIR)
      const read = parseEntry(written, STORE_DIR)
      assert.equal(read.kind, entry.kind)
      assert.deepEqual(formatEntry(read, STORE_DIR), written)
    }),
  )
})

test('no two byte strings are the same entry', () => {
  fc.assert(
    fc.property(anyEntry, fc.nat(), fc.integer({ min: 1, max: 255 }), (entry, at, flip) => {
      const written = formatEntry(entry, STORE_DIR)
      const changed = Uint8Array.from(written)
      changed[at % changed.length] = (changed[at % changed.length] ?? 0) ^ flip
      let read: Entry
      try {
        read = parseEntry(changed, STORE_DIR)
      } catch (error) {
        assert.ok(error instanceof FeedFormatError)
        return
      }
      assert.deepEqual(formatEntry(read, STORE_DIR), Buffer.from(changed))
    }),
  )
})
