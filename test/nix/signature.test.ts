import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import * as noble from '@noble/ed25519'
import * as fc from 'fast-check'
import { generateSecretKey, parsePublicKey } from '../../src/nix/key.ts'
import type { KeyName, PublicKey } from '../../src/nix/key.ts'
import { formatSignature, parseSignature, sign, verify } from '../../src/nix/signature.ts'
import type { Signature } from '../../src/nix/signature.ts'
import { sampleKey } from './sample.ts'

/** The order of the base point, RFC 8032 section 5.1. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })

/** noble's stricter branch: the other opinion. */
function verifyWithNoble(publicKey: PublicKey, text: string, signature: Signature): boolean {
  noble.hashes.sha512 ??= (message) => Uint8Array.from(createHash('sha512').update(message).digest())
  return noble.verify(signature.bytes, Buffer.from(text), publicKey.bytes, { zip215: false })
}

function both(publicKey: PublicKey, text: string, signature: Signature): boolean {
  const ours = verify(publicKey, text, signature)
  assert.equal(verifyWithNoble(publicKey, text, signature), ours, 'noble and node:crypto disagree')
  return ours
}

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const at = (bit >> 3) % copy.length
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit & 7))
  return copy
}

describe('sign and verify', () => {
  it('gives the signature of RFC 8032 section 7.1, test 1', () => {
    const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
    const signature = sign(
      generateSecretKey('rfc', () => seed),
      '',
    )
    assert.equal(
      Buffer.from(signature.bytes).toString('hex'),
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    )
  })

  it('noble and node:crypto both take what we sign', () => {
    fc.assert(
      fc.property(bytes32, fc.string({ unit: 'binary' }), (seed, text) => {
        const key = generateSecretKey('a-1', () => seed)
        assert.equal(both(key.publicKey, text, sign(key, text)), true)
      }),
      { numRuns: 30 },
    )
  })

  it('both refuse a flipped bit in signature, key or text', () => {
    fc.assert(
      fc.property(bytes32, fc.string({ minLength: 1 }), fc.nat(511), (seed, text, bit) => {
        const key = generateSecretKey('a-1', () => seed)
        const signature = sign(key, text)
        const { keyName, bytes } = signature
        assert.equal(both(key.publicKey, text, { keyName, bytes: flipped(bytes, bit) }), false)
        const otherKey = { name: key.name, bytes: flipped(key.publicKey.bytes, bit) }
        assert.equal(both(otherKey, text, signature), false)
        const otherText = String.fromCharCode(text.charCodeAt(0) ^ 1) + text.slice(1)
        assert.equal(both(key.publicKey, otherText, signature), false)
      }),
      { numRuns: 30 },
    )
  })

  it('both refuse S + L, the same signature malleated', () => {
    fc.assert(
      fc.property(bytes32, fc.string(), (seed, text) => {
        const key = generateSecretKey('a-1', () => seed)
        const { keyName, bytes } = sign(key, text)
        const s = BigInt(`0x${Buffer.from(bytes.slice(32).toReversed()).toString('hex')}`)
        const malleated = Buffer.from((s + L).toString(16).padStart(64, '0'), 'hex').toReversed()
        const signature = { keyName, bytes: Uint8Array.from([...bytes.subarray(0, 32), ...malleated]) }
        assert.equal(both(key.publicKey, text, signature), false)
      }),
      { numRuns: 30 },
    )
  })

  it('a forgery under the identity, which OpenSSL 3.0 takes, finds no key to be verified by', () => {
    const identity = Uint8Array.from([1, ...new Uint8Array(31)])
    const publicKey: PublicKey = { name: 'evil-1' as KeyName, bytes: identity }
    const forged = { keyName: publicKey.name, bytes: Uint8Array.from([...identity, ...new Uint8Array(32)]) }
    // What node:crypto says depends on its OpenSSL: 3.0.19 takes it, 3.5.8 refuses it.
    assert.equal(verifyWithNoble(publicKey, 'any text at all', forged), false)
    assert.throws(() => parsePublicKey(`evil-1:${Buffer.from(identity).toString('base64')}`))
  })

  it('a right signature under another key name is false', () => {
    const key = sampleKey('a-1', 1)
    const { bytes } = sign(key, 'text')
    assert.equal(verify(key.publicKey, 'text', { keyName: 'b-1' as KeyName, bytes }), false)
  })

  it('a key is not confused with another of the same name', () => {
    const [one, two] = [sampleKey('a-1', 1), sampleKey('a-1', 2)]
    assert.equal(verify(one.publicKey, 'text', sign(one, 'text')), true)
    assert.equal(verify(two.publicKey, 'text', sign(one, 'text')), false)
    assert.equal(verify(two.publicKey, 'text', sign(two, 'text')), true)
  })
})

describe('parseSignature', () => {
  const data = Buffer.alloc(64, 5).toString('base64')

  it('reads what formatSignature writes', () => {
    const text = `cache.example-1:${data}`
    const signature = parseSignature(text)
    assert.deepEqual(signature, { keyName: 'cache.example-1', bytes: new Uint8Array(64).fill(5) })
    assert.equal(formatSignature(signature), text)
  })

  const refused = [
    '',
    'junk',
    ':',
    'a-1:',
    `:${data}`,
    `a 1:${data}`,
    `a-1: ${data}`,
    `a-1:${data} `,
    `a-1:${data}\n`,
    `a-1:b:${data}`,
    'a-1:AAAA',
    'a-1:!!!!',
    `a-1:${Buffer.alloc(63).toString('base64')}`,
    `a-1:${Buffer.alloc(65).toString('base64')}`,
    `a-1:${data.replace(/.==$/, 'B==')}`,
  ]
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))} of ${text.length}`, () => {
      assert.throws(() => parseSignature(text), RangeError)
    })
  }
})
