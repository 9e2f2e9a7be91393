import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { parsePathPattern } from '../../src/nix/path-pattern.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'

const HASH = '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq'
const OTHER = 'a6rnjp15qgp8a699dlffqj94hzy1nldg'

const MATCHES: [pattern: string, name: string, matches: boolean][] = [
  ['hello', 'hello', true],
  ['hello', 'hello-2.12', false],
  ['hello', 'Hello', false],
  ['hello*', 'hello', true],
  ['hello-*', 'hello-2.12-dev', true],
  ['*-dev', 'hello-2.12-dev', true],
  ['*-dev', 'hello-2.12-dev-doc', false],
  ['*secret*', 'my-secret-1', true],
  ['a*b*c', 'a-b-b-c-c', true],
  ['a*b*c', 'a-c-b', false],
  ['*', 'anything', true],
  ['**', 'anything', true],
  ['a?c', 'abc', true],
  ['a?c', 'a?c', true],
  ['a?c', 'ac', false],
  ['hello-2.12', 'hello-2x12', false],
  ['c++', 'c++', true],
]

describe('a path pattern', () => {
  for (const [pattern, name, matches] of MATCHES) {
    it(`${pattern} ${matches ? 'is' : 'is not'} for ${name}`, () => {
      const path = parseStorePathBaseName(`${HASH}-${name}`)
      assert.equal(parsePathPattern(pattern).matches(path), matches)
    })
  }
  it('that is a full base name is for that path alone', () => {
    const pattern = parsePathPattern(`${HASH}-hello-2.12`)
    assert.equal(pattern.matches(parseStorePathBaseName(`${HASH}-hello-2.12`)), true)
    assert.equal(pattern.matches(parseStorePathBaseName(`${OTHER}-hello-2.12`)), false)
    assert.equal(pattern.matches(parseStorePathBaseName(`${OTHER}-${HASH}-hello-2.12`)), false)
  })
  it('may have wildcards behind a hash part', () => {
    assert.equal(parsePathPattern(`${HASH}-*`).matches(parseStorePathBaseName(`${HASH}-hello`)), true)
    assert.equal(parsePathPattern(`${HASH}-*`).matches(parseStorePathBaseName(`${OTHER}-hello`)), false)
  })
  it('means what a regular expression of its parts means', () => {
    const piece = fc.constantFrom('a', 'b', '.', '*', '?', '*a', 'ab*')
    const letter = fc.constantFrom('a', 'b', '.', '?')
    fc.assert(
      fc.property(
        fc.array(piece, { minLength: 1, maxLength: 6 }),
        fc.array(letter, { minLength: 1, maxLength: 10 }),
        (pieces, letters) => {
          const name = `x${letters.join('')}`
          const pattern = `x${pieces.join('')}`
          const text = pattern.replaceAll('.', '[.]').replaceAll('*', '.*').replaceAll('?', '.')
          assert.equal(
            parsePathPattern(pattern).matches(parseStorePathBaseName(`${HASH}-${name}`)),
            new RegExp(`^${text}$`).test(name),
          )
        },
      ),
    )
  })
  for (const text of ['', '/nix/store/hello', 'a b', 'a[bc]', 'ä', 'x'.repeat(513)]) {
    it(`is not ${JSON.stringify(text.slice(0, 20))}`, () => {
      assert.throws(() => parsePathPattern(text), /expected a name of a store path/)
    })
  }
})
