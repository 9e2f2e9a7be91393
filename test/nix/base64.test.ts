import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { decodeBase64, encodeBase64 } from '../../src/nix/base64.ts'

describe('base64', () => {
  it('gives back what it was given, padding or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        const text = encodeBase64(bytes)
        assert.deepEqual(decodeBase64(text, bytes.length), bytes)
        assert.deepEqual(decodeBase64(text.replace(/=+$/, ''), bytes.length), bytes)
      }),
    )
  })

  const refused: [text: string, byteLength: number][] = [
    ['AAA', 1],
    ['AAE=', 1],
    ['AB==', 1],
    ['AA=', 1],
    ['AA==AA==', 2],
    ['A', 0],
    ['-_8=', 2],
    ['AA AA', 3],
    ['AAAA\n', 3],
    ['=', 0],
  ]
  for (const [text, byteLength] of refused) {
    it(`refuses ${JSON.stringify(text)} for ${byteLength} bytes`, () => {
      assert.throws(() => decodeBase64(text, byteLength), RangeError)
    })
  }

  it('keeps a secret out of its error', () => {
    for (const text of ['c2VjcmV0', 'c2VjcmV0!', 'c2VjcmV0=']) {
      assert.throws(
        () => decodeBase64(text, 32, 'secret'),
        (error: Error) => !error.message.includes('c2VjcmV0'),
      )
      assert.throws(() => decodeBase64(text, 32), /c2VjcmV0/)
    }
  })
})
