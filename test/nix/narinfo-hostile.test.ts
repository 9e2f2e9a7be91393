/** The narinfos of shared/reference/security.md section 3 A, by their numbers there, and more of each kind. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { NARINFO_MAX_BYTES, NARINFO_MAX_SIGNATURES } from '../../src/limits.ts'
import { NarInfoError, parseNarInfo } from '../../src/nix/narinfo.ts'
import { formatSignature, sign } from '../../src/nix/signature.ts'
import { STORE_DIR } from './genuine.ts'
import { isSignedBySample, sampleKey, sampleNarInfo, sampleText } from './sample.ts'

const text = sampleText()
const info = sampleNarInfo()
const hash = info.narHash
const references = info.references.join(' ')
const library = info.references[1] ?? ''

/** `text` with the line of one field replaced by others. */
function withLine(name: string, ...lines: string[]): string {
  const changed = text.replace(new RegExp(`^${name}: .*\n`, 'm'), lines.map((line) => `${line}\n`).join(''))
  assert.notEqual(changed, text)
  return changed
}

const withValue = (name: string, value: string): string => withLine(name, `${name}: ${value}`)
const twice = (name: string): string => text.replace(new RegExp(`^(${name}: .*\n)`, 'm'), '$1$1')
const sha512 = '0'.repeat(128)

const refused: [title: string, text: string][] = [
  ...['StorePath', 'URL', 'NarHash', 'NarSize', 'Compression', 'FileHash', 'FileSize', 'Deriver'].map(
    (name): [string, string] => [`A1 ${name} twice, the same`, twice(name)],
  ),
  ['A1 NarHash twice, the good one last', `NarHash: sha256:${'0'.repeat(52)}\n${text}`],
  ['A1 NarSize twice, the good one first', `${text}NarSize: 1\n`],
  ['A2 References twice', twice('References')],
  ['A2 References twice, the first empty', `References: \n${text}`],
  ['A2 References twice, the second empty', `${text}References: \n`],
  ['A2 CA twice', `${text}CA: text:sha256:${hash}\nCA: text:sha256:${hash}\n`],
  ['A6 a reference named twice', withValue('References', `${references} ${library}`)],
  ['A6 a reference that is an absolute path', withValue('References', `/nix/store/${library}`)],
  ['A6 references with a tab between', withValue('References', references.replace(' ', '\t'))],
  ['A6 references with commas between', withValue('References', references.replace(' ', ','))],
  ['A11 17 Sig lines', text + 'Sig: a-1:AAAA\n'.repeat(NARINFO_MAX_SIGNATURES)],
  ['A11 1,000 Sig lines', text + 'Sig: a-1:AAAA\n'.repeat(1000)],
  ['A12 URL with a CR', withValue('URL', 'nar/x.nar\r')],
  ['A12 URL with a NUL', withValue('URL', 'nar/x\0.nar')],
  ['A12 URL with a space', withValue('URL', 'nar/x y.nar')],
  ['A12 URL with a tab', withValue('URL', 'nar/x\ty.nar')],
  ['A12 URL with DEL', withValue('URL', 'nar/x\x7f.nar')],
  ['A12 URL that is not ASCII', withValue('URL', 'nar/é.nar')],
  ['A12 URL that is empty', withValue('URL', '')],
  ['A12 no URL', withLine('URL')],
  ['A13 CRLF', text.replaceAll('\n', '\r\n')],
  ['A13 one CR in an unknown field', `${text}Unknown: x\r\n`],
  ['A13 no final newline', text.slice(0, -1)],
  ['A13 NUL in an unknown field', `${text}Unknown: \0\n`],
  ['A13 NUL at the end', `${text}\0`],
  ['A13 a byte order mark', `\ufeff${text}`],
  ['A13 1 MiB and a byte', `${text}X: ${'x'.repeat(NARINFO_MAX_BYTES - text.length - 3)}\n`],
  ['A13 1 MiB and a byte, counted in UTF-8', `${text}X: ${'é'.repeat(NARINFO_MAX_BYTES / 2)}\n`],
  ['A13 nothing at all', ''],
  ['A13 a newline alone', '\n'],
  ['A13 a blank line at the end', `${text}\n`],
  ['A13 a blank line at the start', `\n${text}`],
  ['A13 a blank line between', text.replace('\n', '\n\n')],
  ['A13 a line without a colon', `${text}unknown\n`],
  ['A13 a colon without a space', text.replace('NarSize: ', 'NarSize:')],
  ['A13 a tab after the colon', text.replace('NarSize: ', 'NarSize:\t')],
  ['A13 nothing after the colon, whereby Nix swallows the next line', withLine('References', 'References:')],
  ['A13 a line without a name', `${text}: x\n`],
  ['A13 an HTML page', '<!DOCTYPE html>\n<html><title>404: not found</title></html>\n'],
  ['A13 cut in the middle', text.slice(0, text.length / 2)],
  ['A14 NarHash sha512', withValue('NarHash', `sha512:${sha512}`)],
  ['A14 NarHash md5', withValue('NarHash', `md5:${'0'.repeat(32)}`)],
  ['A14 NarHash sha1', withValue('NarHash', `sha1:${'0'.repeat(40)}`)],
  ['A14 NarHash SRI sha512', withValue('NarHash', `sha512-${Buffer.alloc(64).toString('base64')}`)],
  ['A14 NarHash without an algorithm', withValue('NarHash', hash)],
  ['A14 NarHash that is empty', withValue('NarHash', '')],
  ['A14 no NarHash', withLine('NarHash')],
  ...['e', 'o', 't', 'u'].map((letter): [string, string] => [
    `A15 NarHash with the letter ${letter}`,
    withValue('NarHash', `sha256:${hash.slice(0, 51)}${letter}`),
  ]),
  ['A15 NarHash with padding bits', withValue('NarHash', `sha256:2${hash.slice(1)}`)],
  ...[
    '0',
    '-1',
    '1e3',
    '9007199254740992',
    '18446744073709551616',
    '0206000',
    '+206000',
    '206000 ',
    '0x10',
    '1.0',
    '',
  ].map((size): [string, string] => [`A16 NarSize ${JSON.stringify(size)}`, withValue('NarSize', size)]),
  ['A16 NarSize of 1 TiB and a byte', withValue('NarSize', String(2 ** 40 + 1))],
  ['A16 no NarSize', withLine('NarSize')],
  ['A17 another store', text.replace('StorePath: /nix/store', 'StorePath: /gnu/store')],
  ['A17 a store path without its store', text.replace('StorePath: /nix/store/', 'StorePath: ')],
  ['A17 below a store path', withValue('StorePath', `/nix/store/${info.storePath}/bin`)],
  ['A17 no StorePath', withLine('StorePath')],
  ['A18 a CA that is no content address', `${text}CA: sha256:${hash}\n`],
  ...['unknown', 'XZ', 'Zstd', 'lzip', 'lz4', 'compress', 'none ', ' xz', 'identity'].map(
    (word): [string, string] => [`A19 Compression ${JSON.stringify(word)}`, withValue('Compression', word)],
  ),
  ['A20 FileSize that is no number', withValue('FileSize', '1e9')],
  ['A20 FileSize of 1 TiB and a byte', withValue('FileSize', String(2 ** 40 + 1))],
  ['A20 FileHash that is no hash', withValue('FileHash', 'sha256:x')],
  ['a Deriver that is an absolute path', withValue('Deriver', `/nix/store/${info.storePath}.drv`)],
  ['a Deriver that is no store path', withValue('Deriver', 'hello.drv')],
  ['a Deriver that is empty', withValue('Deriver', '')],
  ['a System with a space', `${text}System: x86_64 linux\n`],
]

describe('a hostile narinfo is refused', () => {
  for (const [title, hostile] of refused) {
    it(title, () => {
      assert.throws(
        () => parseNarInfo(hostile, STORE_DIR),
        (error: unknown) => {
          assert.ok(error instanceof NarInfoError)
          assert.ok(error.message.length < 400, `${error.message.length} characters`)
          return true
        },
      )
    })
  }
})

describe('a lie about what is signed', () => {
  it('is found only because the truth is signed', () => {
    assert.equal(isSignedBySample(text), true)
  })

  const lies: [title: string, text: string][] = [
    ['A3 another path', withValue('StorePath', `/nix/store/${library}`)],
    ['A4 the same hash part, another name', withValue('StorePath', `/nix/store/${info.storePath}1`)],
    ['A5 NarSize and 1', withValue('NarSize', String(info.narSize + 1))],
    ['A5 NarSize less 1', withValue('NarSize', String(info.narSize - 1))],
    ['A5 another NarHash', withValue('NarHash', `sha256:${'0'.repeat(52)}`)],
    ['A6 a reference missing', withValue('References', library)],
    ['A6 a reference more', withValue('References', `${references} ${library}x`)],
    ['A6 no References', withLine('References')],
    [
      'A7 the key name right, the key wrong',
      withValue('Sig', formatSignature(sign(sampleKey('signer-1', 2), 'text'))),
    ],
    ['A8 the key right, its name not configured', text.replace('Sig: signer-1:', 'Sig: other-1:')],
    ['no signature', withLine('Sig')],
  ]
  for (const [title, lie] of lies) {
    it(`${title}: no trusted signature`, () => {
      assert.equal(isSignedBySample(lie), false)
    })
  }

  const truths: [title: string, text: string][] = [
    ['A6 references in another order', withValue('References', info.references.toReversed().join(' '))],
    ['A14 NarHash in base 16', withValue('NarHash', `sha256:${'07'.repeat(32)}`)],
    ['A14 NarHash in SRI', withValue('NarHash', `sha256-${Buffer.alloc(32, 7).toString('base64')}`)],
    ['A18 a CA that lies', `${text}CA: text:sha256:${hash}\n`],
    ['A20 a FileSize that lies', withValue('FileSize', '1')],
    ['A20 a FileHash that lies', withValue('FileHash', `sha256:${'0'.repeat(52)}`)],
    ['another Deriver', withValue('Deriver', `${library}.drv`)],
  ]
  for (const [title, truth] of truths) {
    it(`${title}: not covered by the signature, or the same under it`, () => {
      assert.equal(isSignedBySample(truth), true)
    })
  }
})

describe('a malformed Sig line', () => {
  const junk = [
    '',
    'junk',
    'signer-1',
    'signer-1:',
    'signer-1:AAAA',
    ':AAAA',
    'signer-1:!',
    'other-1:AAAA',
    'é:AAAA',
  ]
  for (const value of junk) {
    it(`${JSON.stringify(value)} is dropped, and the good one stays`, () => {
      assert.deepEqual(parseNarInfo(`Sig: ${value}\n${text}`, STORE_DIR), info)
    })
  }

  it('counts towards the cap: 15 and a good one are read, 16 and a good one are not', () => {
    const good = parseNarInfo(text + 'Sig: junk\n'.repeat(NARINFO_MAX_SIGNATURES - 1), STORE_DIR)
    assert.deepEqual(good, info)
    const bad = text + 'Sig: junk\n'.repeat(NARINFO_MAX_SIGNATURES)
    assert.throws(() => parseNarInfo(bad, STORE_DIR), /17 signatures, at most 16/)
  })

  it('a good one twice is read once', () => {
    assert.deepEqual(parseNarInfo(twice('Sig'), STORE_DIR), info)
  })
})

describe('any text', () => {
  it('of up to 1 MiB is read', () => {
    const filler = `X: ${'x'.repeat(NARINFO_MAX_BYTES - text.length - 4)}\n`
    assert.equal(Buffer.byteLength(text + filler), NARINFO_MAX_BYTES)
    assert.deepEqual(parseNarInfo(text + filler, STORE_DIR), info)
  })

  it('throws NarInfoError or nothing', () => {
    const edit = fc.tuple(fc.nat(text.length), fc.nat(20), fc.string({ unit: 'binary', maxLength: 5 }))
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        let hostile = text
        for (const [at, length, insert] of edits) {
          hostile = hostile.slice(0, at) + insert + hostile.slice(at + length)
        }
        try {
          parseNarInfo(hostile, STORE_DIR)
        } catch (error) {
          assert.ok(error instanceof NarInfoError)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('cut anywhere is refused or not signed', () => {
    for (let length = 0; length < text.length; length++) {
      const cut = text.slice(0, length)
      let signed = false
      try {
        signed = isSignedBySample(cut)
      } catch (error) {
        assert.ok(error instanceof NarInfoError)
      }
      assert.equal(signed, false, `cut at ${length}`)
    }
  })
})
