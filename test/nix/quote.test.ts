import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { quote } from '../../src/nix/quote.ts'

describe('quote', () => {
  const quoted: [text: string, shown: string][] = [
    ['', '""'],
    ['plain text', '"plain text"'],
    ['a "b" \\', '"a \\"b\\" \\\\"'],
    ['\r\n\0\x1b[31m', '"\\r\\n\\u0000\\u001b[31m"'],
    ['\x7f\x9b\u202e', '"\\u007f\\u009b\\u202e"'],
    ['x'.repeat(80), `"${'x'.repeat(80)}"`],
    ['x'.repeat(81), `"${'x'.repeat(80)}"... (81 characters)`],
  ]
  for (const [text, shown] of quoted) {
    it(`shows ${JSON.stringify(text)} of ${text.length}`, () => {
      assert.equal(quote(text), shown)
    })
  }

  it('is visible ASCII on one line, and tells a short text exactly', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) => {
        fc.pre(text.length <= 80)
        assert.match(quote(text), /^[ -~]*$/)
        assert.equal(JSON.parse(quote(text)), text)
      }),
    )
  })
})
