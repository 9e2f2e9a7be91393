import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { PolicyError } from '../../src/substitute/policy.ts'
import { sampleKey, sampleNarInfo } from '../nix/sample.ts'
import { signed } from '../substitute/kit.ts'
import { sharePolicy } from './kit.ts'

const info = sampleNarInfo()
const stranger = sampleKey('stranger-1', 3)

const REFUSED: Record<string, { told?: typeof info; deny?: string[]; reason: RegExp }> = {
  'nobody signed': { told: { ...info, signatures: [] }, reason: /no signature by a share key \(signer-1\)/ },
  'a stranger signed': {
    told: signed({ ...info, signatures: [] }, stranger),
    reason: /no signature by a share key/,
  },
  'was changed after it was signed': {
    told: { ...info, narSize: 1 },
    reason: /no signature by a share key/,
  },
  'the deny list names by pattern': { deny: ['other', 'sample-*'], reason: /share\.deny has sample-\*/ },
  'the deny list names in full': {
    deny: [info.storePath],
    reason: /share\.deny has 7c5zrpajq5y.*-sample-1\.0/,
  },
}

describe('others may not have what', () => {
  for (const [title, { told = info, deny = [], reason }] of Object.entries(REFUSED)) {
    it(title, () => {
      const policy = sharePolicy(deny)
      assert.equal(policy.allows(told), false)
      assert.throws(
        () => policy.verify(told, hashPartOf(told.storePath)),
        (error) => error instanceof PolicyError && reason.test(error.message),
      )
    })
  }
})

describe('the share policy', () => {
  it('lets go what a share key signed and nothing denies', () => {
    const policy = sharePolicy(['sample', 'samples-*'])
    assert.equal(policy.allows(info), true)
    assert.equal(policy.verify(info, hashPartOf(info.storePath)).storePath, info.storePath)
  })
  it('is another rule with other keys or another deny list, in whatever order', () => {
    const [a, b] = [sampleKey('a-1', 1), sampleKey('b-1', 2)]
    assert.equal(sharePolicy(['x', 'y'], a, b).rule, sharePolicy(['y', 'x'], b, a).rule)
    const rules = [sharePolicy([], a), sharePolicy([], a, b), sharePolicy(['x'], a), sharePolicy(['y'], a)]
    assert.equal(new Set(rules.map(({ rule }) => rule)).size, 4)
  })
})
