import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { Point } from '@noble/ed25519'
import * as fc from 'fast-check'
import {
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  KeyError,
  parsePublicKey,
  parseSecretKey,
  trustedKeys,
} from '../../src/nix/key.ts'
import { skipWithoutNix } from '../kit/nix.ts'
import { tempDir } from '../kit/temp.ts'
import { CACHE_NIXOS_ORG } from './genuine.ts'
import { sampleKey } from './sample.ts'

/** RFC 8032 section 7.1, test 1. */
const RFC_SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'
const RFC_PUBLIC = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'

const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64')

describe('public keys', () => {
  it('are read and written as in trusted-public-keys', () => {
    const key = parsePublicKey(CACHE_NIXOS_ORG)
    assert.equal(key.name, 'cache.nixos.org-1')
    assert.equal(key.bytes.length, 32)
    assert.equal(formatPublicKey(key), CACHE_NIXOS_ORG)
  })

  it('may lack their padding, as a key copied by double click does', () => {
    assert.deepEqual(parsePublicKey(CACHE_NIXOS_ORG.replace(/=$/, '')), parsePublicKey(CACHE_NIXOS_ORG))
  })

  const smallOrder: [hex: string, which: string][] = [
    [`01${'00'.repeat(31)}`, 'the identity'],
    [`01${'00'.repeat(30)}80`, 'the identity with a sign bit, not canonical'],
    [`ec${'ff'.repeat(30)}7f`, 'order 2'],
    [`ec${'ff'.repeat(31)}`, 'order 2 with a sign bit, not canonical'],
    ['00'.repeat(32), 'order 4'],
    [`${'00'.repeat(31)}80`, 'order 4, negative'],
    ['c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', 'order 8'],
    ['c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa', 'order 8, negative'],
    ['26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', 'order 8, the other'],
    ['26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85', 'order 8, the other, negative'],
    [`ed${'ff'.repeat(30)}7f`, 'y = p, not canonical'],
    [`ed${'ff'.repeat(31)}`, 'y = p with a sign bit, not canonical'],
    [`ee${'ff'.repeat(30)}7f`, 'y = p + 1, not canonical'],
    [`ee${'ff'.repeat(31)}`, 'y = p + 1 with a sign bit, not canonical'],
  ]
  for (const [hex, which] of smallOrder) {
    it(`refuse the small-order point ${which}`, () => {
      assert.equal(Point.fromHex(hex, true).isSmallOrder(), true)
      assert.throws(() => parsePublicKey(`evil-1:${base64(hex)}`), KeyError)
    })
  }

  it('refuse y = p + 3, a point that also has a canonical spelling', () => {
    const hex = `f0${'ff'.repeat(30)}7f`
    assert.equal(Point.fromHex(hex, true).isSmallOrder(), false)
    assert.throws(() => parsePublicKey(`evil-1:${base64(hex)}`), /not a canonical point/)
  })

  it('refuse a real key plus a small-order point', () => {
    const torsion = Point.fromHex(smallOrder[6]?.[0] ?? '')
    const mixed = Point.fromHex(RFC_PUBLIC).add(torsion)
    assert.throws(() => parsePublicKey(`evil-1:${base64(mixed.toHex())}`), /prime-order/)
  })

  const malformed = [
    '',
    'cache.nixos.org-1',
    ':6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    'cache.nixos.org-1:',
    'a b:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    'é:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    `${'n'.repeat(256)}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=`,
    'a:b:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    'a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=\n',
    'a: 6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
    'a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjZ=',
    'a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDSh',
    `a:${base64(RFC_PUBLIC + RFC_PUBLIC)}`,
    `a:${base64(`02${'00'.repeat(31)}`)}`,
  ]
  for (const text of malformed) {
    it(`refuse ${JSON.stringify(text.slice(0, 80))}`, () => {
      assert.throws(() => parsePublicKey(text), KeyError)
    })
  }
})

describe('secret keys', () => {
  const text = `test-1:${base64(RFC_SEED + RFC_PUBLIC)}`

  it('are the seed and the public key, as libsodium and Nix have it', () => {
    const key = parseSecretKey(text)
    assert.equal(Buffer.from(key.publicKey.bytes).toString('hex'), RFC_PUBLIC)
    assert.equal(Buffer.from(key.seed).toString('hex'), RFC_SEED)
    assert.equal(formatSecretKey(key), text)
    assert.equal(formatSecretKey(parseSecretKey(`${text}\n`)), text)
  })

  it('are made from 32 random bytes', () => {
    const asked: number[] = []
    const key = generateSecretKey('test-1', (n) => {
      asked.push(n)
      return Buffer.from(RFC_SEED, 'hex')
    })
    assert.deepEqual(asked, [32])
    assert.equal(formatSecretKey(key), text)
    assert.throws(() => generateSecretKey('test-1', () => new Uint8Array(31)), KeyError)
    assert.throws(() => generateSecretKey('a:b', (n) => new Uint8Array(n)), KeyError)
  })

  it('survive being written and read', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (seed) => {
        const key = generateSecretKey('test-1', () => seed)
        assert.deepEqual(parseSecretKey(formatSecretKey(key)).seed, seed)
        assert.deepEqual(parsePublicKey(formatPublicKey(key.publicKey)), key.publicKey)
      }),
      { numRuns: 20 },
    )
  })

  it('do not show their seed in a log line or in JSON', () => {
    const key = parseSecretKey(text)
    assert.deepEqual(Object.keys(key), ['name', 'publicKey'])
    assert.ok(!inspect(key).includes('seed'))
    assert.ok(!JSON.stringify(key).includes('seed'))
  })

  const secret = base64(RFC_SEED + RFC_PUBLIC)
  const refused: [title: string, text: string][] = [
    ['no name', secret],
    ['an empty name', `:${secret}`],
    ['halves swapped', `${secret}:test-1`],
    ['a name with a space before it', ` test-1:${secret}`],
    ['the seed alone', `test-1:${base64(RFC_SEED)}`],
    ['a byte more', `test-1:${base64(`${RFC_SEED}${RFC_PUBLIC}00`)}`],
    ['a character that is not base64', `test-1:!${secret.slice(1)}`],
    ["another key's public half", `test-1:${base64(RFC_SEED + '00'.repeat(32))}`],
    ['two newlines', `test-1:${secret}\n\n`],
  ]
  for (const [title, wrong] of refused) {
    it(`are refused with ${title}, and the error does not show the secret`, () => {
      assert.throws(
        () => parseSecretKey(wrong),
        (error: unknown) => {
          assert.ok(error instanceof KeyError)
          assert.ok(!inspect(error).includes(secret.slice(1, 30)))
          return true
        },
      )
    })
  }

  it('of nix-store --generate-binary-cache-key are read', { skip: skipWithoutNix() }, async (t) => {
    const dir = await tempDir(t)
    const [secretFile, publicFile] = [join(dir, 'secret'), join(dir, 'public')]
    const args = ['--generate-binary-cache-key', 'made-by-nix-1', secretFile, publicFile]
    const made = spawnSync('nix-store', args, { encoding: 'utf8' })
    assert.equal(made.status, 0, made.stderr)
    const key = parseSecretKey(readFileSync(secretFile, 'utf8'))
    assert.equal(formatSecretKey(key), readFileSync(secretFile, 'utf8').trim())
    assert.equal(formatPublicKey(key.publicKey), readFileSync(publicFile, 'utf8').trim())
  })
})

describe('trustedKeys', () => {
  it('finds keys by name and takes the same key twice', () => {
    const [a, b] = [sampleKey('a-1', 1).publicKey, sampleKey('b-1', 2).publicKey]
    const keys = trustedKeys([a, b, parsePublicKey(formatPublicKey(a))])
    assert.equal(keys.size, 2)
    assert.deepEqual(keys.get(a.name), a)
    assert.equal(keys.get(b.name), b)
  })

  it('refuses two keys of one name', () => {
    const keys = [sampleKey('a-1', 1).publicKey, sampleKey('a-1', 2).publicKey]
    assert.throws(() => trustedKeys(keys), /two different keys are named "a-1"/)
  })
})
