import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { decodeNix32, encodeNix32 } from '../../src/nix/nix32.ts'
import { skipWithoutNix } from '../kit/nix.ts'

describe('nix32', () => {
  it('spells the empty string and the hash of the Nix manual', () => {
    assert.equal(encodeNix32(new Uint8Array(0)), '')
    assert.equal(
      encodeNix32(Buffer.from('e4fd8ba5f7bbeaea5ace89fe10255536cd60dab6', 'hex')),
      'nvd61k9nalji1zl9rrdfmsmvyyjqpzg4',
    )
  })

  it('gives back what it was given, whatever the length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        assert.deepEqual(decodeNix32(encodeNix32(bytes), bytes.length), bytes)
      }),
    )
  })

  it('has one spelling only for 32 bytes: any changed character is refused or is another hash', () => {
    const character = fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'.split(''))
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.nat(51),
        character,
        (bytes, at, other) => {
          const text = encodeNix32(bytes)
          const changed = text.slice(0, at) + other + text.slice(at + 1)
          fc.pre(changed !== text)
          let decoded: Uint8Array | undefined
          try {
            decoded = decodeNix32(changed, 32)
          } catch (error) {
            assert.ok(error instanceof RangeError)
          }
          assert.notDeepEqual(decoded, bytes)
        },
      ),
    )
  })

  const good = '0'.repeat(52)
  const bad: [title: string, text: string][] = [
    ['51 characters', good.slice(1)],
    ['53 characters', `${good}0`],
    ['the letter e', `${good.slice(1)}e`],
    ['the letter o', `${good.slice(1)}o`],
    ['the letter t', `${good.slice(1)}t`],
    ['the letter u', `${good.slice(1)}u`],
    ['upper case', `${good.slice(1)}A`],
    ['padding bit 1', `2${good.slice(1)}`],
    ['padding bit 4', `g${good.slice(1)}`],
    ['all padding bits', `z${good.slice(1)}`],
    ['a two-byte character', `${good.slice(1)}é`],
  ]
  for (const [title, text] of bad) {
    it(`refuses ${title}`, () => {
      assert.throws(() => decodeNix32(text, 32), RangeError)
    })
  }

  it('agrees with nix-hash both ways', { skip: skipWithoutNix() }, () => {
    for (const type of ['md5', 'sha1', 'sha256', 'sha512'] as const) {
      const length = { md5: 16, sha1: 20, sha256: 32, sha512: 64 }[type]
      for (const bytes of [
        randomBytes(length),
        Buffer.alloc(length, 0xff),
        Buffer.from([...Array(length).keys()]),
      ]) {
        const hex = bytes.toString('hex')
        const text = nixHash('--to-base32', '--type', type, hex)
        assert.equal(encodeNix32(bytes), text)
        assert.equal(nixHash('--to-base16', '--type', type, encodeNix32(bytes)), hex)
        assert.deepEqual(decodeNix32(text, length), Uint8Array.from(bytes))
      }
    }
  })

  it('refuses padding bits as nix-hash does', { skip: skipWithoutNix() }, () => {
    const text = `2${good.slice(1)}`
    assert.notEqual(spawnSync('nix-hash', ['--to-base16', '--type', 'sha256', text]).status, 0)
    assert.throws(() => decodeNix32(text, 32), /padding bits/)
  })
})

function nixHash(...args: string[]): string {
  const result = spawnSync('nix-hash', args, { encoding: 'utf8' })
  assert.equal(result.status, 0, result.stderr)
  return result.stdout.trim()
}
