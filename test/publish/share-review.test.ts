import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { trustedKeys } from '../../src/nix/key.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import { reviewSharing } from '../../src/publish/share-review.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { noise, store } from '../spool/kit.ts'
import { engine, narInfoOf, signer, testPolicy } from '../substitute/kit.ts'

const stranger = sampleKey('other-1', 5)

/** One NAR whose narinfo `signer` signed, and one of which no narinfo is known. */
async function reviewing(t: TestContext) {
  const node = await engine(t, {})
  const [signed, unknown] = [await store(node.spool, noise(5000)), await store(node.spool, noise(6000, 'x'))]
  for (const plan of [signed, unknown]) node.index.put(plan, { shared: true, inSpool: true })
  node.table.put(testPolicy.verify(narInfoOf(signed)))
  const { db, index, table, log } = node
  return {
    log,
    review(...keys: SecretKey[]) {
      const shareKeys = trustedKeys(keys.map((key) => key.publicKey))
      const policy = createPolicy({ keys: shareKeys, threshold: 1, storeDir: STORE_DIR })
      reviewSharing({ db, index, table, policy, log }, shareKeys)
      return [signed, unknown].map(({ narHash }) => index.nar(narHash)?.shared)
    },
    unshare: () => index.setShared(signed.narHash, false),
  }
}

describe('share.keys that changed', () => {
  it('take back what none of them signed, and give again what one did', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(stranger), [false, false])
    assert.match(one.log.lines.at(-1)?.message ?? '', /0 NARs are shared from now on, 2 no more/)
    assert.deepEqual(one.review(stranger, signer), [true, false])
  })
  it('are looked at once: the same ones change nothing at the next start', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(signer), [true, false])
    one.unshare()
    assert.deepEqual(one.review(signer), [false, false])
  })
})
