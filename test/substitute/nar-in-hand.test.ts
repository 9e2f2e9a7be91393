import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { createNarProver } from '../../src/dag/nar-prover.ts'
import { NarHashMismatchError } from '../../src/substitute/errors.ts'
import { createNarInHand } from '../../src/substitute/nar-in-hand.ts'
import { createProgress } from '../../src/substitute/progress.ts'
import { noise, options, planOf, spoolBench } from '../spool/kit.ts'
import { MIB, narInfoOf } from './kit.ts'

const nar = noise(MIB + 10_000)
const wrong = noise(nar.length, 'wrong')
const info = narInfoOf(planOf(nar))

async function bench(t: TestContext) {
  const { spool, log } = await spoolBench(t)
  const counted: [Record<string, number>, boolean][] = []
  const start = () =>
    createNarInHand(
      info,
      {
        createFile: () => spool.create(planOf(nar)),
        createProver: () => createNarProver('hashed'),
        finished: () => {},
        count: (bySource, isWhole) => void counted.push([Object.fromEntries(bySource), isWhole]),
        disputed: () => false,
        log,
      },
      createProgress(),
    )
  return { spool, counted, start }
}

describe('a NAR in hand', () => {
  it('is counted by who gave it, and is whole once it is committed', async (t) => {
    const { spool, counted, start } = await bench(t)
    const inHand = start()
    await inHand.open()
    await inHand.append(nar.subarray(0, 4000), 'a')
    await inHand.append(nar.subarray(4000, 5000), 'b')
    await inHand.append(nar.subarray(5000), 'a')
    const { narHash, plan } = inHand.finish()
    assert.equal(narHash, info.narHash)
    assert.equal(inHand.verified, false)
    await inHand.commit(plan)
    assert.equal(inHand.verified, true)
    assert.equal(spool.has(info.narHash), true)
    assert.deepEqual(counted, [[{ a: nar.length - 1000, b: 1000 }, true]])
  })
  it('hashes and counts nothing of what was thrown away', async (t) => {
    const { counted, start } = await bench(t)
    const inHand = start()
    await inHand.open()
    await inHand.append(wrong, 'liar')
    const gone = inHand.throwAway()
    assert.equal(inHand.file, undefined, 'readers could still have it')
    await gone
    await inHand.open()
    await inHand.append(nar, 'a')
    assert.equal(inHand.finish().narHash, info.narHash)
    await inHand.commit(undefined)
    assert.deepEqual(counted, [[{ a: nar.length }, true]])
  })
  it('goes on where it was given up, hashing what was kept', async (t) => {
    const { counted, start } = await bench(t)
    const first = start()
    await first.open()
    await first.append(nar.subarray(0, MIB), 'a')
    const reason = new Error('nobody waits')
    await first.abandon(reason)
    assert.equal(first.failure, reason)
    const again = start()
    assert.equal((await again.open()).prefix, MIB)
    await again.rehash(options)
    await again.append(nar.subarray(MIB), 'b')
    assert.equal(again.finish().narHash, info.narHash)
    await again.commit(undefined)
    assert.deepEqual(counted, [
      [{ a: MIB }, false],
      [{ spool: MIB, b: 10_000 }, true],
    ])
  })
  it('is not kept, nor counted, when it proved wrong', async (t) => {
    const { counted, start } = await bench(t)
    const inHand = start()
    await inHand.open()
    await inHand.append(wrong, 'liar')
    await inHand.abandon(new NarHashMismatchError('wrong'))
    assert.deepEqual(counted, [])
    const again = await start().open()
    assert.equal(again.prefix, 0)
    await again.abandon(new Error('the test is over'))
  })
})
