import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { describe, it } from 'node:test'
import { SHARE_REVIEW_TURN_COUNT } from '../../src/limits.ts'
import type { SharePolicy } from '../../src/publish/share-policy.ts'
import { openShareReview } from '../../src/publish/share-review.ts'
import { sampleKey } from '../nix/sample.ts'
import { noise, planOf, store } from '../spool/kit.ts'
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
  const open = (policy: SharePolicy, shares = true) =>
    openShareReview({ db, index, table, store: nix, policy, log }, { shares })
  const shared = () => [signed, unknown].map(({ narHash }) => index.nar(narHash)?.shared)
  return {
    log,
    open,
    shared,
    /** A start, and all turns after it. */
    review(policy: SharePolicy, shares = true) {
      const review = open(policy, shares)
      while (review.turn());
      return shared()
    },
    alsoAs: (name: string) => table.put(testPolicy.verify(narInfoOf(signed, name))),
    inStoreAs(name: string) {
      const info = narInfoOf(unknown, name)
      nix.add(info, noise(6000, 'x'))
      index.addPath(unknown.narHash, info.storePath)
    },
    unshare: () => index.setShared(signed.narHash, false),
    /** Indexed behind all others, and signed. */
    addMany(count: number) {
      const plans = Array.from({ length: count }, (_, at) => planOf(Buffer.from(`NAR ${at}`)))
      for (const [at, plan] of plans.entries()) {
        index.put(plan, { shared: true, inSpool: true })
        node.table.put(testPolicy.verify(narInfoOf(plan, `many-${at}`)))
      }
      return () => plans.filter(({ narHash }) => index.nar(narHash)?.shared === true).length
    },
  }
}

const BY_STRANGER = sharePolicy([], stranger)
const BY_BOTH = sharePolicy([], stranger, signer)
const DENIED = sharePolicy(['package-*'], stranger, signer)

describe('a share policy that changed', () => {
  it('takes back what no share key signed, and gives again what one did', async (t) => {
    const one = await reviewing(t)
    assert.deepEqual(one.review(BY_STRANGER), [false, false])
    assert.match(one.log.lines.at(-1)?.message ?? '', /decided anew: 2 NARs are taken back/)
    assert.deepEqual(one.review(BY_BOTH), [true, false])
    assert.match(one.log.lines.at(-1)?.message ?? '', /decided anew: 1 NARs are/)
  })
  it('takes back all before the first turn, and goes on after a crash where it was', async (t) => {
    const one = await reviewing(t)
    const shared = one.addMany(3 * SHARE_REVIEW_TURN_COUNT)
    const crashed = one.open(BY_BOTH)
    assert.deepEqual([one.shared(), shared()], [[false, false], 0])
    crashed.turn()
    const before = shared()
    assert.deepEqual([one.shared(), before], [[true, false], SHARE_REVIEW_TURN_COUNT - 2])
    const next = one.open(BY_BOTH)
    one.unshare()
    assert.equal(shared(), before)
    while (next.turn());
    assert.deepEqual([one.shared(), shared()], [[false, false], 3 * SHARE_REVIEW_TURN_COUNT])
  })
  it('that changes again in the middle is decided from the beginning', async (t) => {
    const one = await reviewing(t)
    const shared = one.addMany(2 * SHARE_REVIEW_TURN_COUNT)
    one.open(BY_BOTH).turn()
    one.open(DENIED)
    assert.equal(shared(), 0)
    assert.deepEqual([one.review(BY_BOTH), shared()], [[true, false], 2 * SHARE_REVIEW_TURN_COUNT])
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
