import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseContentAddress } from '../../src/nix/content-address.ts'

const nix32 = '1kr6h9rkk2rhyj35isglsf55m1nz9lybi1m2k2sv6iwb8i6didhx'
const sha1 = 'e4fd8ba5f7bbeaea5ace89fe10255536cd60dab6'

describe('parseContentAddress', () => {
  const taken = [
    `text:sha256:${nix32}`,
    `fixed:sha256:${nix32}`,
    `fixed:r:sha256:${nix32}`,
    `fixed:r:sha1:${sha1}`,
    `fixed:git:sha1:${sha1}`,
    `fixed:md5:${sha1.slice(0, 32)}`,
  ]
  for (const text of taken) {
    it(`takes ${text}`, () => {
      assert.equal(parseContentAddress(text), text)
    })
  }
  const refused = [
    '',
    'text',
    `sha256:${nix32}`,
    `text:${nix32}`,
    `text:sha1:${sha1}`,
    `text:r:sha256:${nix32}`,
    `fixed:x:sha256:${nix32}`,
    `fixed:sha256:${nix32.slice(1)}`,
    `fixed:sha1:${nix32}`,
    `fixed:sha257:${nix32}`,
    `fixed:r:sha256:${nix32} `,
    `fixed:r:sha256:2${nix32.slice(1)}`,
  ]
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseContentAddress(text), RangeError)
    })
  }
})
