import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  formatStorePath,
  hashPartOf,
  isHashPart,
  nameOf,
  parseStorePath,
  parseStorePathBaseName,
} from '../../src/nix/store-path.ts'

const HASH = '7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq'
const ROOT = '/nix/store'

describe('parseStorePathBaseName', () => {
  const names = ['a', 'hello-2.12.1', 'a'.repeat(211), 'AZaz09+-._?=', '-', '.a', '...', '..a', '._', 'x..-y']
  for (const name of names) {
    it(`takes the name ${JSON.stringify(name.slice(0, 20))} of ${name.length}`, () => {
      const path = parseStorePathBaseName(`${HASH}-${name}`)
      assert.equal(hashPartOf(path), HASH)
      assert.equal(nameOf(path), name)
      assert.equal(formatStorePath(path, ROOT), `${ROOT}/${HASH}-${name}`)
      assert.equal(parseStorePath(formatStorePath(path, ROOT), ROOT), path)
    })
  }

  const refusedNames = [
    '',
    '.',
    '..',
    '.-',
    '.-x',
    '..-',
    '..-x',
    'a'.repeat(212),
    'a b',
    'a/b',
    'a\n',
    'a\0',
    'é',
    'a%',
    'a!',
  ]
  for (const name of refusedNames) {
    it(`refuses the name ${JSON.stringify(name.slice(0, 20))} of ${name.length}`, () => {
      assert.throws(() => parseStorePathBaseName(`${HASH}-${name}`), RangeError)
    })
  }

  for (const text of [
    '',
    HASH,
    `${HASH}_x`,
    `${HASH.slice(1)}-x`,
    `${HASH.replace('7', 'e')}-x`,
    `${HASH.toUpperCase()}-x`,
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseStorePathBaseName(text), RangeError)
    })
  }

  it('quotes no more than 80 characters of a hostile text', () => {
    assert.throws(
      () => parseStorePathBaseName('\n'.repeat(100_000)),
      (error: Error) => error.message.length < 300 && !error.message.includes('\n'),
    )
  })
})

describe('parseStorePath', () => {
  const refused = [
    `${HASH}-x`,
    `/nix/store//${HASH}-x`,
    `/nix/store/../store/${HASH}-x`,
    `/nix/store/${HASH}-x/`,
    `/nix/store/${HASH}-x/bin`,
    `/gnu/store/${HASH}-x`,
    `/nix/storex${HASH}-x`,
    `nix/store/${HASH}-x`,
    ` /nix/store/${HASH}-x`,
  ]
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseStorePath(text, ROOT), RangeError)
    })
  }
})

describe('isHashPart', () => {
  it('is 32 characters of nix32 and nothing else', () => {
    assert.equal(isHashPart(HASH), true)
    for (const text of [`${HASH}\n`, HASH.slice(1), `${HASH}0`, HASH.replace('7', 't'), '']) {
      assert.equal(isHashPart(text), false, JSON.stringify(text))
    }
  })
})
