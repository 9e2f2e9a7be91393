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

describe('what comes in lent buffers', () => {
  /** Pieces of one lent buffer each, which is filled with zeros as soon as it is given back. */
  async function lending(t: TestContext) {
    const kit = await bench(t)
    const released: number[] = []
    let given = 0
    const give = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const number = given++
        const piece = Uint8Array.from(nar.subarray(number * PIECE, (number + 1) * PIECE))
        await kit.transfer.file?.append(piece, () => {
          piece.fill(0)
          released.push(number)
        })
      }
      kit.progress.notify()
    }
    return { ...kit, released, give }
  }
  const PIECE = HELD_BACK_BYTES / 2
  const reuse = { ...options, reuse: true }

  it('goes out as it lies in memory, and is a reader’s until it is given the next but one', async (t) => {
    const { readers, give, released, transfer, progress, end } = await lending(t)
    const reader = readers.read(whole, reuse)
    const got: Uint8Array[] = []
    for (let i = 0; i < 4; i++) {
      await give(1)
      const { value } = await reader.next()
      assert.ok(value !== undefined)
      got.push(value)
    }
    // Each is kept until HELD_BACK_BYTES came after it.
    assert.deepEqual(released, [0, 1])
    assert.deepEqual(Buffer.concat(got.slice(2)), nar.subarray(2 * PIECE, 4 * PIECE))
    await give(2)
    transfer.verified = true
    progress.notify()
    const rest = await Array.fromAsync(reader, (bytes) => bytes)
    assert.deepEqual(Buffer.concat(rest), nar.subarray(4 * PIECE))
    await end()
  })
  it('is not taken from one who asks whether there is more, and may still be sending the last two', async (t) => {
    const { readers, give, released, transfer, progress, end } = await lending(t)
    const reader = readers.read({ start: 0, end: 2 * PIECE }, reuse)
    await give(2)
    transfer.verified = true
    progress.notify()
    const first = await reader.next()
    const second = await reader.next()
    assert.equal((await reader.next()).done, true)
    await give(4)
    // Nobody had these.
    assert.deepEqual(released, [2, 3])
    assert.deepEqual(
      Buffer.concat([first.value ?? Buffer.alloc(0), second.value ?? Buffer.alloc(0)]),
      nar.subarray(0, 2 * PIECE),
    )
    await end()
  })
  it('stays that of a reader who keeps what it gets, or leaves', async (t) => {
    const { readers, give, released, end } = await lending(t)
    const keeping = readers.read(whole, options)
    const leaving = readers.read(whole, reuse)
    const kept: Uint8Array[] = []
    for (let i = 0; i < 4; i++) {
      await give(1)
      const { value } = await keeping.next()
      if (value !== undefined) kept.push(value)
      if (i < 2) await leaving.next()
    }
    await leaving.return()
    await give(1)
    assert.deepEqual(released, [])
    assert.deepEqual(Buffer.concat(kept), nar.subarray(0, 4 * PIECE))
    await end()
  })
  it('is released when nobody reads along', async (t) => {
    const { give, released, end } = await lending(t)
    await give(6)
    assert.deepEqual(released, [0, 1, 2, 3])
    await end()
    assert.deepEqual(released, [0, 1, 2, 3, 4, 5])
  })
})
