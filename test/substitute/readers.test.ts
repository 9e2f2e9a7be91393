import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { HELD_BACK_BYTES, ORPHAN_GRACE_MS } from '../../src/limits.ts'
import { NoSourceError } from '../../src/substitute/errors.ts'
import { createProgress } from '../../src/substitute/progress.ts'
import { createReaders } from '../../src/substitute/readers.ts'
import type { SpoolFile } from '../../src/spool/spool-file.ts'
import { noise, options, planOf, spoolBench } from '../spool/kit.ts'

const nar = noise(3 * HELD_BACK_BYTES)
const whole = { start: 0, end: nar.length }

async function bench(t: TestContext) {
  const { spool } = await spoolBench(t)
  const progress = createProgress()
  const transfer = {
    file: (await spool.create(planOf(nar))) as SpoolFile | undefined,
    verified: false,
    disputed: false,
    failure: undefined,
  }
  let orphaned = 0
  const readers = createReaders(transfer, progress, () => (orphaned += 1))
  const give = async (bytes: Uint8Array): Promise<void> => {
    await transfer.file?.append(bytes)
    progress.notify()
  }
  const end = async (): Promise<void> => transfer.file?.abandon(new Error('the test is over'))
  return { spool, progress, transfer, readers, give, orphaned: () => orphaned, end }
}

describe('who reads along and is nobody of ours', () => {
  it('gets the bytes as they come, the last of them when they are proved', async (t) => {
    const { readers, give, transfer, progress, end } = await bench(t)
    const parts: Uint8Array[] = []
    const reading = (async () => {
      for await (const bytes of readers.follow(whole, options)) parts.push(Uint8Array.from(bytes))
    })()
    const came = (): number => parts.reduce((sum, { length }) => sum + length, 0)
    const settle = async (bytes: number): Promise<void> => {
      while (came() < bytes) await new Promise((resolve) => void setImmediate(resolve))
    }
    await give(nar.subarray(0, HELD_BACK_BYTES))
    await settle(HELD_BACK_BYTES)
    await give(nar.subarray(HELD_BACK_BYTES))
    await settle(2 * HELD_BACK_BYTES)
    assert.equal(came(), 2 * HELD_BACK_BYTES)
    transfer.verified = true
    progress.notify()
    await reading
    assert.deepEqual(Buffer.concat(parts), nar)
    await end()
  })
  it('does not keep the transfer going', async (t) => {
    const { readers, give, orphaned, end } = await bench(t)
    t.mock.timers.enable({ apis: ['setTimeout'] })
    await give(nar.subarray(0, HELD_BACK_BYTES))
    const own = readers.read(whole, options)
    await own.next()
    const other = readers.follow(whole, options)
    await other.next()
    await own.return()
    t.mock.timers.tick(ORPHAN_GRACE_MS)
    assert.equal(orphaned(), 1)
    await other.return()
    await end()
  })
  it('does not keep wrong bytes from being thrown away, and is cut then', async (t) => {
    const { readers, give, transfer, spool, progress, end } = await bench(t)
    await give(nar.subarray(0, HELD_BACK_BYTES))
    const other = readers.follow(whole, options)
    await other.next()
    assert.equal(readers.released, 0)
    const next = assert.rejects(other.next(), NoSourceError)
    const old = transfer.file
    transfer.file = undefined
    await old?.abandon(new Error('wrong bytes'))
    transfer.file = await spool.create(planOf(nar))
    progress.notify()
    await next
    await end()
  })
})
