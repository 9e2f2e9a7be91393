import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { zstdDecompressSync } from 'node:zlib'
import * as fc from 'fast-check'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { createLeafCoder } from '../../src/http/leaf-coder.ts'
import type { CodableLeaf } from '../../src/http/leaf-coder.ts'
import {
  CODED_LEAF_MIN_BYTES,
  CODED_LEAVES_MAX_BYTES,
  CODERS_LEAVES_COUNT,
  CODERS_PEER_LEAVES_COUNT,
} from '../../src/limits.ts'
import { pattern } from './kit.ts'

const MIB = 1_048_576
const options = { signal: new AbortController().signal }
/** 1 Mbit/s: any coder is quicker. */
const SLOW = 125_000

let leaves = 0
function leaf(bytes: Uint8Array, more: Partial<CodableLeaf> = {}): CodableLeaf {
  return { cid: `leaf-${leaves++}`, bytes, peer: '10.0.0.1', linkBytesPerS: SLOW, ...more }
}

test('whatever is coded is the leaf again, in one frame that tells its size', async () => {
  const coder = createLeafCoder()
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: CODED_LEAF_MIN_BYTES, maxLength: 20_000 }),
    fc.integer({ min: CODED_LEAF_MIN_BYTES, max: MIB }).map(pattern),
    fc.integer({ min: CODED_LEAF_MIN_BYTES, max: MIB }).map((size) => new Uint8Array(size)),
  )
  await fc.assert(
    fc.asyncProperty(bytes, async (one) => {
      const answer = await coder.code(leaf(one), options)
      if (answer === undefined) return
      assert.equal(answer.coding, 'zstd')
      const { bytes: coded } = answer
      assert.ok(coded.length < one.length)
      assert.ok(zstdDecompressSync(coded, { maxOutputLength: one.length }).equals(one))
      assert.equal(coded.buffer.byteLength, coded.length)
      // Frame_Header_Descriptor (RFC 8878 3.1.1.1.1): a size that is told, and no dictionary.
      const descriptor = coded[4] ?? 0
      assert.ok(descriptor >= 0x40 || (descriptor & 0x20) !== 0)
      assert.equal(descriptor & 3, 0)
    }),
    { numRuns: 60 },
  )
})

test('a coded leaf lies ready for the next; one that does not get smaller is not tried again', async () => {
  const coder = createLeafCoder()
  const good = leaf(pattern(MIB))
  const coded = await coder.code(good, options)
  assert.ok(coded !== undefined)
  assert.equal(coder.ready(good.cid), coded)
  const bad = leaf(randomBytes(MIB))
  assert.equal(await coder.code(bad, options), undefined)
  assert.equal(coder.ready(bad.cid), undefined)
  // Bytes that would get smaller show that nobody looks at them.
  assert.equal(await coder.code({ ...bad, bytes: pattern(MIB) }, options), undefined)
})

test('who asks for a leaf that is being coded gets the same', async () => {
  const coder = createLeafCoder()
  const one = leaf(pattern(MIB))
  const [a, b] = await Promise.all([
    coder.code(one, options),
    coder.code({ ...one, peer: 'another' }, options),
  ])
  assert.ok(a !== undefined)
  assert.equal(a, b)
})

test('one that waits for a difference with somebody who leaves gets an answer all the same', async () => {
  const coder = createLeafCoder()
  const leaving = new AbortController()
  const dictionary = {
    cid: rawCid(sha256(pattern(MIB))),
    // It leaves while the disk is read.
    async lend({ signal }: { signal: AbortSignal }): Promise<never> {
      leaving.abort(new Error('the client closed the connection'))
      await setImmediate()
      throw signal.reason
    },
  }
  const one = leaf(pattern(MIB), { dictionary })
  const first = coder.code(one, { signal: leaving.signal })
  const second = coder.code({ ...one, peer: 'another' }, options)
  await first.catch(() => {})
  await assert.doesNotReject(second)
})

test('a leaf of a few packets goes out as it is', async () => {
  assert.equal(await createLeafCoder().code(leaf(pattern(CODED_LEAF_MIN_BYTES - 1)), options), undefined)
})

/** How many of the leaves, all asked for at once, come coded. */
async function codedOf(asked: readonly CodableLeaf[], coder = createLeafCoder()): Promise<number> {
  const answers = await Promise.all(asked.map((one) => coder.code(one, options)))
  return answers.filter((coded) => coded !== undefined).length
}

test('no peer and not all together have more leaves at the coders than they may; the rest go out raw at once', async () => {
  const many = (peer: string) => Array.from({ length: 40 }, () => leaf(pattern(64 * 1024), { peer }))
  assert.equal(await codedOf(many('a')), CODERS_PEER_LEAVES_COUNT)
  assert.equal(await codedOf(['a', 'b', 'c', 'd'].flatMap(many)), CODERS_LEAVES_COUNT)
  const coder = createLeafCoder()
  assert.equal(await codedOf(many('a'), coder), CODERS_PEER_LEAVES_COUNT)
  // The places are free again.
  assert.equal(await codedOf(many('a'), coder), CODERS_PEER_LEAVES_COUNT)
})

test('a link that is quicker than the coder gets its leaves raw', async () => {
  const one = (linkBytesPerS: number | undefined) => [leaf(pattern(MIB), { linkBytesPerS })]
  assert.equal(await codedOf(one(1_250_000_000)), 0)
  assert.equal(await codedOf(one(12_500_000)), 1)
  assert.equal(await codedOf(one(undefined)), 1)
})

test('a coder that turned out slow is spared, and tried again after a minute', async () => {
  let now = 0
  // Each look at the clock takes a second.
  const coder = createLeafCoder({ clock: () => (now += 1_000) })
  const ask = () => codedOf([leaf(pattern(MIB), { linkBytesPerS: 12_500_000 })], coder)
  assert.equal(await ask(), 1)
  assert.equal(await ask(), 0)
  now += 60_000
  assert.equal(await ask(), 1)
})

test('all of a window that are differences wait for their turns, though nobody knows the link', async () => {
  let now = 0
  // Coding a leaf takes 40 ms, on average, after the first of 180.
  const coder = createLeafCoder({ clock: () => (now += 180) })
  const older = pattern(MIB)
  const dictionary = {
    cid: rawCid(sha256(older)),
    lend: async () => ({ bytes: older, release: () => {} }),
  }
  const ask = (more: Partial<CodableLeaf>) =>
    codedOf(
      Array.from({ length: CODERS_PEER_LEAVES_COUNT }, () =>
        leaf(pattern(MIB), { linkBytesPerS: undefined, ...more }),
      ),
      coder,
    )
  assert.equal(await codedOf([leaf(pattern(MIB))], coder), 1)
  assert.equal(await ask({ dictionary }), CODERS_PEER_LEAVES_COUNT)
  // Plain ones are not so much smaller that they might wait.
  assert.ok((await ask({})) < CODERS_PEER_LEAVES_COUNT)
})

test('who left while waiting for a coder is not waited for', async () => {
  const coder = createLeafCoder()
  const controller = new AbortController()
  const asked = Array.from({ length: CODERS_PEER_LEAVES_COUNT }, () =>
    coder.code(leaf(pattern(MIB)), { signal: controller.signal }),
  )
  controller.abort(new Error('gone'))
  const answers = await Promise.all(asked)
  assert.ok(answers.includes(undefined))
  assert.equal(await codedOf([leaf(pattern(MIB))], coder), 1)
})

test('coded leaves take no more memory than they may', async () => {
  const coder = createLeafCoder()
  // Half of each is noise, so that it stays half as large.
  const half = randomBytes(MIB / 2)
  const cids: string[] = []
  for (let at = 0; at < (2 * CODED_LEAVES_MAX_BYTES) / MIB + 8; at++) {
    half.writeUInt32LE(at)
    const one = leaf(Buffer.concat([half, new Uint8Array(MIB / 2)]))
    cids.push(one.cid)
    assert.ok((await coder.code(one, options)) !== undefined)
  }
  const held = cids.map((cid) => coder.ready(cid)).filter((coded) => coded !== undefined)
  const buffers = new Set(held.map(({ bytes }) => bytes.buffer))
  const bytes = [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0)
  assert.ok(bytes <= CODED_LEAVES_MAX_BYTES, `${bytes} bytes`)
  assert.ok(held.length > 100, `${held.length} leaves`)
  assert.equal(coder.ready(cids[0] ?? ''), undefined)
})
