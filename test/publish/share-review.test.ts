import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import type { SharePolicy } from '../../src/publish/share-policy.ts'
import { reviewSharing } from '../../src/publish/share-review.ts'
import { sampleKey } from '../nix/sample.ts'
import { noise, store } from '../spool/kit.ts'
import { engine, narInfoOf, signer, testPolicy } from '../substitute/kit.ts'
import { sharePolicy } from './kit.ts'
import { memoryStore } from './memory-store.ts'

const stranger = sampleKey('other-1', 5)

/** One NAR whose narinfo `signer` signed, and one of which no narinfo is known. */
async function reviewing(t: TestContext) {
  const node = await engine(t, {})
  const [signed, unknown] = [await store(node.spool, noise(5000)), await store(node.spool, noise(6000, 'x'))]
  for (const plan of [signed, unknown]) node.index.put(plan, { shared: true, inSpool: true })
  node.table.put(testPolicy.verify(narInfoOf(signed)))
  const { db, index, table, log } = node
  const nix = memoryStore()
  return {
    log,
    review(policy: SharePolicy, shares = true) {
      reviewSharing({ db, index, table, store: nix, policy, log }, { shares })
      return [signed, unknown].map(({ narHash }) => index.nar(narHash)?.shared)
    },
    alsoAs: (name: string) => table.put(testPolicy.verify(narInfoOf(signed, name))),
    inStoreAs(name: string) {
      const info = narInfoOf(unknown, name)
      nix.add(info, noise(6000, 'x'))
      index.addPath(unknown.narHash, info.storePath)
    },
    unshare: () => index.setShared(signed.narHash, false),
  }
}

const BY_STRANGER = sharePolicy([], stranger)
const BY_BOTH = sharePolicy([], stranger, signer)
const DENIED = sharePolicy(['package-*'], stranger, signer)

describe('a share policy that changed', () => {
  it('takes back what no share key signed, and gives again what one did', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(BY_STRANGER), [false, false])
    assert.match(one.log.lines.at(-1)?.message ?? '', /0 NARs are shared from now on, 2 no more/)
    assert.deepEqual(one.review(BY_BOTH), [true, false])
  })
  it('takes back what share.deny names', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(BY_BOTH), [true, false])
    assert.deepEqual(one.review(DENIED), [false, false])
    assert.deepEqual(one.review(BY_BOTH), [true, false])
  })
  it('leaves a NAR of a denied path when another path has the same bytes', async (t) => {
    const one = await reviewing(t)
    one.alsoAs('other-1')
    assert.deepEqual(one.review(DENIED), [true, false])
  })
  it('asks the database of the store, where no narinfo was kept', async (t) => {
    const one = await reviewing(t)
    one.inStoreAs('other-1')
    assert.deepEqual(one.review(BY_BOTH), [true, true])
    assert.deepEqual(one.review(DENIED), [false, true])
    assert.deepEqual(one.review(BY_STRANGER), [false, false])
  })
  it('is looked at once: the same one changes nothing at the next start', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(BY_BOTH), [true, false])
    one.unshare()
    assert.deepEqual(one.review(BY_BOTH), [false, false])
  })
  it('looks again at what came while nothing was shared', async (t) => {
    const one = await reviewing(t)
    one.review(BY_BOTH)
    one.unshare()
    assert.deepEqual(one.review(BY_BOTH, false), [false, false])
    assert.deepEqual(one.review(BY_BOTH), [true, false])
  })
})
