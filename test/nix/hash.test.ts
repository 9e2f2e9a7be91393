import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import {
  formatNarHash,
  isNarHash,
  narHashDigest,
  narHashFromDigest,
  parseNarHash,
} from '../../src/nix/hash.ts'

const digest = createHash('sha256').update('narswarm').digest()
const hex = digest.toString('hex')
const base64 = digest.toString('base64')
const nix32 = narHashFromDigest(digest)

describe('parseNarHash', () => {
  const spellings = [
    `sha256:${nix32}`,
    `sha256:${hex}`,
    `sha256:${hex.toUpperCase()}`,
    `sha256:${base64}`,
    `sha256-${base64}`,
  ]
  for (const text of spellings) {
    it(`takes ${text}`, () => {
      assert.equal(parseNarHash(text), nix32)
      assert.equal(formatNarHash(parseNarHash(text)), `sha256:${nix32}`)
      assert.deepEqual(Buffer.from(narHashDigest(parseNarHash(text))), digest)
    })
  }

  const sha512 = createHash('sha512').update('narswarm').digest('hex')
  const refused = [
    '',
    nix32,
    hex,
    'sha256:',
    'sha256-',
    ` sha256:${nix32}`,
    `sha256:${nix32} `,
    `SHA256:${nix32}`,
    `sha256:${nix32.slice(1)}`,
    `sha256:2${nix32.slice(1)}`,
    `sha256:${nix32.slice(0, 51)}e`,
    `sha256:${hex.slice(0, 63)}g`,
    `sha256:${base64.slice(0, 43)}!`,
    `sha256-${nix32}`,
    `sha256-${hex}`,
    `sha512:${sha512}`,
    `sha256:${sha512}`,
    `sha1:${hex.slice(0, 40)}`,
    `md5:${hex.slice(0, 32)}`,
    `blake3-${base64}`,
  ]
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseNarHash(text), RangeError)
    })
  }
})

describe('isNarHash', () => {
  it('takes just what a 32-byte digest encodes to', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const text = narHashFromDigest(bytes)
        assert.ok(isNarHash(text))
        assert.deepEqual(narHashDigest(text), bytes)
      }),
    )
  })
  for (const text of [
    '',
    `sha256:${nix32}`,
    `2${nix32.slice(1)}`,
    `${nix32}\n`,
    nix32.replace(/.$/, 'u'),
    hex,
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.equal(isNarHash(text), false)
    })
  }
})

it('a digest of 31 bytes is no NarHash', () => {
  assert.throws(() => narHashFromDigest(new Uint8Array(31)), RangeError)
})
