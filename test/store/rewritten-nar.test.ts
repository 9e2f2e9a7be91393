import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { STORE_READ_BYTES } from '../../src/limits.ts'
import { NIX32_ALPHABET } from '../../src/nix/nix32.ts'
import { createRewriter } from '../../src/nix/rewriter.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { readRewritten, streamRewritten } from '../../src/store/rewritten-nar.ts'
import type { OldNar } from '../../src/store/rewritten-nar.ts'
import { bytesOf } from './real-store.ts'

const MIB = STORE_READ_BYTES
const { signal } = new AbortController()
/** Each digit once: of one digit alone a random byte before it could make it begin there. */
const A = NIX32_ALPHABET
const B = Array.from(A).toReversed().join('')
const OLD = parseStorePathBaseName(`${A}-zlib-1.2.12`)
const NEW = parseStorePathBaseName(`${B}-zlib-1.2.13`)
const REWRITES = [{ from: OLD, to: NEW }]

/** Random bytes with the old path at each of the offsets, and the same with the new one. */
function narWith(size: number, offsets: readonly number[]): { old: Buffer; wanted: Buffer } {
  const old = randomBytes(size)
  const wanted = Buffer.from(old)
  for (const at of offsets) {
    old.write(OLD, at, 'latin1')
    wanted.write(NEW, at, 'latin1')
  }
  return { old, wanted }
}

function narOf(bytes: Uint8Array): OldNar & { readonly reads: number[] } {
  const reads: number[] = []
  return {
    narSize: bytes.length,
    reads,
    async read({ start, end }, target) {
      reads.push(start)
      assert.equal(target.length, end - start)
      target.set(bytes.subarray(start, end))
    },
  }
}

/** Whatever the reader may do to a chunk that it has done with. */
async function bytesWithReuse(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = []
  let previous: Uint8Array | undefined
  for await (const chunk of chunks) {
    copies.push(Buffer.from(chunk))
    previous?.fill(0)
    previous = chunk
  }
  return Buffer.concat(copies)
}

describe('a rewritten NAR', () => {
  const sizes = [1, 31, 43, 44, 1000, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 12_345]
  for (const size of sizes) {
    it(`of ${size} bytes is a stream of them, with and without reuse`, async () => {
      const offsets = [0, size - OLD.length, MIB - 20, 2 * MIB - OLD.length, 3 * MIB - 1, 4 * MIB].filter(
        (at) => at >= 0 && at + OLD.length <= size,
      )
      const { old, wanted } = narWith(size, size < 2 * OLD.length ? offsets.slice(0, 1) : offsets)
      const range = { start: 0, end: size }
      const rewriter = createRewriter(REWRITES)
      const stream = streamRewritten(narOf(old), rewriter, range, { signal })
      assert.ok((await bytesOf(stream)).equals(wanted))
      const again = streamRewritten(narOf(old), rewriter, range, { signal, reuse: true })
      assert.ok((await bytesWithReuse(again)).equals(wanted))
    })
  }

  it('gives any range, and reads on the same grid wherever it begins', async () => {
    const { old, wanted } = narWith(4 * MIB, [MIB - 20, 2 * MIB - 5, 3 * MIB])
    const rewriter = createRewriter(REWRITES)
    for (const start of [0, 1, MIB - 21, MIB - 20, MIB - 1, MIB, MIB + 1, MIB + 24, 2 * MIB, 3 * MIB + 43]) {
      for (const end of [start, start + 1, MIB + 3, 2 * MIB, 3 * MIB + 10, 4 * MIB]) {
        if (end < start) continue
        const nar = narOf(old)
        const bytes = await bytesOf(streamRewritten(nar, rewriter, { start, end }, { signal }))
        assert.ok(bytes.equals(wanted.subarray(start, end)), `${start} to ${end}`)
        assert.ok(nar.reads.every((at) => at % MIB === 0))
        assert.ok(bytes.equals(await readRewritten(nar, rewriter, { start, end })))
      }
    }
  })

  it('is the old one when nothing is to be replaced', async () => {
    const { old } = narWith(3 * MIB + 1, [5])
    const stream = streamRewritten(narOf(old), createRewriter([]), { start: 0, end: old.length }, { signal })
    assert.ok((await bytesOf(stream)).equals(old))
  })

  it('replaces a bare hash part across a border', async () => {
    const { old } = narWith(2 * MIB, [])
    old.write(hashPartOf(OLD), MIB - 7, 'latin1')
    const stream = streamRewritten(
      narOf(old),
      createRewriter(REWRITES),
      { start: 0, end: 2 * MIB },
      { signal },
    )
    assert.equal((await bytesOf(stream)).toString('latin1', MIB - 7, MIB + 25), B)
  })

  it('throws what reading throws, and nothing of the read ahead is left behind', async () => {
    const { old } = narWith(4 * MIB, [])
    const nar = narOf(old)
    const failing: OldNar = {
      narSize: nar.narSize,
      async read(range, target) {
        if (range.start >= 2 * MIB) throw new Error('collected')
        return nar.read(range, target)
      },
    }
    let came = 0
    await assert.rejects(async () => {
      for await (const bytes of streamRewritten(
        failing,
        createRewriter(REWRITES),
        { start: 0, end: old.length },
        { signal },
      ))
        came += bytes.length
    }, /collected/)
    assert.ok(came > 0 && came <= 2 * MIB)
    for await (const _ of streamRewritten(
      failing,
      createRewriter(REWRITES),
      { start: MIB, end: 4 * MIB },
      { signal },
    ))
      break
  })
})
