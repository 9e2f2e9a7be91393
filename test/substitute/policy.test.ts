import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { formatSignature } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { createPolicy, PolicyError, vouchers } from '../../src/substitute/policy.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { narInfoOf, pathNamed, signed, signer, testPolicy } from './kit.ts'

const other = sampleKey('signer-2', 2)
const stranger = sampleKey('stranger-1', 3)
const plan = { narHash: narHashFromDigest(new Uint8Array(32).fill(9)), narSize: 4096 }
const genuine = narInfoOf(plan)
const bare: NarInfo = { ...genuine, signatures: [] }

const policyOf = (threshold: number, ...keys: (typeof signer)[]) =>
  createPolicy({ keys: trustedKeys(keys.map((key) => key.publicKey)), threshold, storeDir: STORE_DIR })

describe('policy: one signed field changed', () => {
  const flippedHash = narHashFromDigest(new Uint8Array(32).fill(8))
  const cases: Record<string, Partial<NarInfo>> = {
    'NarSize + 1': { narSize: 4097 },
    'NarSize - 1': { narSize: 4095 },
    'another NarHash': { narHash: flippedHash },
    'another store path': { storePath: pathNamed('other-1.0') },
    'the right hash part and another name': {
      storePath: parseStorePathBaseName(`${hashPartOf(genuine.storePath)}-backdoor-1.0`),
    },
    'a reference less': { references: [] },
    'a reference more': { references: [...genuine.references, pathNamed('extra-1')] },
  }
  for (const [title, change] of Object.entries(cases)) {
    it(`refuses ${title}`, () => {
      assert.throws(() => testPolicy.verify({ ...genuine, ...change }), PolicyError)
    })
  }
  it('accepts the same references in another order', () => {
    const info = signed({ ...bare, references: [pathNamed('a-1'), pathNamed('b-1')] }, signer)
    assert.ok(testPolicy.verify({ ...info, references: info.references.toReversed() }))
  })
})

describe('policy: who signed', () => {
  it('refuses a genuine narinfo of another path than was asked for', () => {
    assert.throws(() => testPolicy.verify(genuine, hashPartOf(pathNamed('asked-1'))), /asked for the path/)
  })
  it('refuses a narinfo without a signature and says so', () => {
    assert.throws(() => testPolicy.verify(bare), /carries no signature/)
  })
  it('refuses the right name with another key', () => {
    assert.throws(() => testPolicy.verify(signed(bare, sampleKey('signer-1', 77))), PolicyError)
  })
  it('finds a key by its name alone, as Nix does', () => {
    assert.throws(() => testPolicy.verify(signed(bare, sampleKey('renamed-1', 1))), PolicyError)
  })
  it('keeps what strangers signed and drops a bad signature of a trusted key', () => {
    const bad = signed({ ...bare, narSize: 1 }, signer).signatures
    const mixed = signed({ ...bare, signatures: bad }, stranger, signer)
    const { signatures } = testPolicy.verify(mixed)
    assert.deepEqual(signatures.map(formatSignature), mixed.signatures.slice(1).map(formatSignature))
  })
  it('names those who vouched', () => {
    const info = signed(bare, stranger, other, signer)
    assert.deepEqual([...vouchers(policyOf(1, signer, other).verify(info))], ['signer-2', 'signer-1'])
  })
  it('tells whether one of other keys signed, whatever it trusts itself', () => {
    const info = signed(genuine, stranger)
    assert.equal(testPolicy.signedBy(info, trustedKeys([stranger.publicKey])), true)
    assert.equal(testPolicy.signedBy({ ...info, narSize: 1 }, trustedKeys([stranger.publicKey])), false)
    assert.equal(testPolicy.signedBy(genuine, trustedKeys([stranger.publicKey])), false)
  })
})

describe('policy: m of n', () => {
  const twin = sampleKey('twin-1', 1)
  it('takes two signatures by two keys', () => {
    assert.ok(policyOf(2, signer, other).verify(signed(bare, signer, other)))
  })
  it('counts one key under two names once', () => {
    assert.throws(() => policyOf(2, signer, twin).verify(signed(bare, signer, twin)), /got 1/)
  })
  it('counts the same signature twice once', () => {
    assert.throws(() => policyOf(2, signer, other).verify(signed(bare, signer, signer)), /got 1/)
  })
  it('does not count strangers', () => {
    assert.throws(() => policyOf(2, signer, other).verify(signed(bare, signer, stranger)), /got 1/)
  })
  for (const threshold of [0, -1, 1.5, Number.NaN]) {
    it(`refuses a threshold of ${threshold}`, () =>
      assert.throws(() => policyOf(threshold, signer), RangeError))
  }
})

describe('policy: the answer', () => {
  it('is written from verified fields alone', () => {
    const told: NarInfo = {
      ...genuine,
      url: 'http://169.254.169.254/x',
      fileSize: 1,
      fileHash: narHashFromDigest(new Uint8Array(32).fill(1)),
      deriver: pathNamed('evil.drv'),
      system: 'x86_64-linux',
      ca: 'fixed:sha256:lie',
    }
    const text = formatNarInfo(testPolicy.verify(told), STORE_DIR)
    assert.deepEqual(
      text
        .trimEnd()
        .split('\n')
        .map((line) => line.split(': ')[0]),
      ['StorePath', 'URL', 'Compression', 'FileHash', 'FileSize', 'NarHash', 'NarSize', 'References', 'Sig'],
    )
    assert.match(text, new RegExp(`^URL: nar/${plan.narHash}\\.nar$`, 'm'))
    assert.match(text, /^Compression: none$/m)
    assert.match(text, new RegExp(`^FileHash: sha256:${plan.narHash}$`, 'm'))
    assert.match(text, /^FileSize: 4096$/m)
  })
})
