import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { createRewriter } from '../../src/nix/rewriter.ts'
import type { Rewrite, Rewriter } from '../../src/nix/rewriter.ts'
import { hashPartOf, nameOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'

const A = 'a'.repeat(32)
const B = 'b'.repeat(32)
const C = 'c'.repeat(32)

function rewriteOf(from: string, to: string): Rewrite {
  return { from: parseStorePathBaseName(from), to: parseStorePathBaseName(to) }
}

/** What a rewriter shall do, in the plainest words. */
function naive(text: string, rewrites: readonly Rewrite[]): string {
  let out = ''
  const changing = rewrites.filter(({ from, to }) => from !== to)
  for (let at = 0; at < text.length;) {
    const rewrite = changing.find(({ from }) => text.startsWith(hashPartOf(from), at))
    if (rewrite === undefined) {
      out += text.charAt(at)
      at += 1
      continue
    }
    const { from, to } = rewrite
    const isWhole = nameOf(from) !== nameOf(to) && text.startsWith(from, at)
    const replacement = isWhole ? to : hashPartOf(to)
    out += replacement
    at += replacement.length
  }
  return out
}

/** In pieces of these lengths in turn, what is not settled yet before the next piece. */
function inPieces(text: string, rewriter: Rewriter, lengths: readonly number[]): string {
  let out = ''
  let rest = Buffer.alloc(0)
  for (let at = 0, turn = 0; at < text.length; turn += 1) {
    const end = Math.min(text.length, at + (lengths[turn % lengths.length] ?? 1))
    const bytes = Buffer.concat([rest, Buffer.from(text.slice(at, end), 'latin1')])
    at = end
    const settled = rewriter.rewrite(bytes, at === text.length)
    assert.ok(bytes.length - settled <= rewriter.reach)
    out += bytes.toString('latin1', 0, settled)
    rest = bytes.subarray(settled)
  }
  return out
}

function inOnePiece(text: string, rewrites: readonly Rewrite[]): string {
  return inPieces(text, createRewriter(rewrites), [text.length])
}

/** Of two letters, so that they overlap with each other and with themselves; or of all. */
const hashPart = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 32, maxLength: 32 }),
  fc
    .tuple(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 5 }))
    .map(([unit]) => unit.repeat(32).slice(0, 32)),
  fc.string({
    unit: fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'.split('')),
    minLength: 32,
    maxLength: 32,
  }),
)
/** Of equal length. Some end as a hash part might begin. */
const name = fc.constantFrom(
  'zlib-1',
  'zlib-2',
  'openssl-3.0.20',
  'openssl-3.0.22',
  'x-aaaabbbb',
  'x-bbbbaaaa',
)

const rewrites = fc
  .uniqueArray(hashPart, { minLength: 2, maxLength: 12 })
  .chain((parts) =>
    fc.tuple(fc.constant(parts), fc.shuffledSubarray(parts, { minLength: parts.length }), fc.array(name)),
  )
  // Each is the old one of one and the new one of another: chains and circles.
  .map(([parts, others, names]) =>
    parts.map((part, index) => {
      const first = names[index % (names.length || 1)] ?? 'zlib-1'
      const second = names[(index + 1) % (names.length || 1)] ?? 'zlib-1'
      const to = second.length === first.length ? second : first
      return rewriteOf(`${part}-${first}`, `${others[index] ?? part}-${to}`)
    }),
  )

/** Whole references, bare hash parts, parts and near misses of them, and anything else, end to end. */
const textWith = (all: readonly Rewrite[]): fc.Arbitrary<string> => {
  const paths = all.flatMap(({ from, to }) => [from, to])
  const path = fc.constantFrom(...paths)
  return fc
    .array(
      fc.oneof(
        path.map((one) => `/nix/store/${one}/bin`),
        path.map(String),
        path.map((one) => hashPartOf(one)),
        fc.tuple(path, fc.nat(45), fc.nat(45)).map(([one, from, to]) => one.slice(from, to)),
        fc.tuple(path, fc.nat(31)).map(([one, at]) => `${one.slice(0, at)}e${one.slice(at + 1)}`),
        fc.tuple(path, fc.nat(31)).map(([one, at]) => `${one.slice(0, at)}z${one.slice(at + 1)}`),
        fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 70 }),
        fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      ),
      { maxLength: 12 },
    )
    .map((parts) => parts.join(''))
}

/** Paths, each the new one of the one before it, and a text of their hash parts. */
function chained(count: number): [text: string, rewrites: Rewrite[]] {
  const parts = Array.from({ length: count }, (_, seed) =>
    encodeNix32(createHash('sha256').update(String(seed)).digest().subarray(0, 20)),
  )
  const all = parts.map((part, at) => rewriteOf(`${part}-x`, `${parts[(at + 1) % count] ?? part}-x`))
  return [parts.map((part, at) => `${part}${'/'.repeat(at % 40)}`).join(''), all]
}

describe('a rewriter', () => {
  const table: [title: string, text: string, rewrites: Rewrite[], expected: string][] = [
    ['nothing', '', [rewriteOf(`${A}-x`, `${B}-x`)], ''],
    ['no rewrite', `${A}-x`, [], `${A}-x`],
    ['a path by itself', `${A}-x`, [rewriteOf(`${A}-x`, `${A}-x`)], `${A}-x`],
    ['a reference', `/${A}-x/bin`, [rewriteOf(`${A}-x`, `${B}-x`)], `/${B}-x/bin`],
    ['a hash part without its name', `${A}"`, [rewriteOf(`${A}-x`, `${B}-x`)], `${B}"`],
    ['a hash part with another name', `${A}-y`, [rewriteOf(`${A}-x`, `${B}-x`)], `${B}-y`],
    ['another version', `${A}-x-1.0/lib`, [rewriteOf(`${A}-x-1.0`, `${B}-x-1.1`)], `${B}-x-1.1/lib`],
    ['another version, bare hash part', `${A}-x-1.0`, [rewriteOf(`${A}-x-2.0`, `${B}-x-2.1`)], `${B}-x-1.0`],
    ['another version, cut off', `${A}-x-1.`, [rewriteOf(`${A}-x-1.0`, `${B}-x-1.1`)], `${B}-x-1.`],
    [
      'a chain',
      `${A}-x ${B}-x`,
      [rewriteOf(`${A}-x`, `${B}-x`), rewriteOf(`${B}-x`, `${C}-x`)],
      `${B}-x ${C}-x`,
    ],
    ['a circle', `${A} ${B}`, [rewriteOf(`${A}-x`, `${B}-x`), rewriteOf(`${B}-x`, `${A}-x`)], `${B} ${A}`],
    ['33 times the same letter', `${A}a`, [rewriteOf(`${A}-x`, `${B}-x`)], `${B}a`],
    ['31 of 32 characters', `${A.slice(1)}-x`, [rewriteOf(`${A}-x`, `${B}-x`)], `${A.slice(1)}-x`],
    ['a letter that nix32 has not', `${A.slice(1)}e`, [rewriteOf(`${A}-x`, `${B}-x`)], `${A.slice(1)}e`],
    ['upper case', A.toUpperCase(), [rewriteOf(`${A}-x`, `${B}-x`)], A.toUpperCase()],
  ]
  for (const [title, text, all, expected] of table) {
    it(title, () => {
      assert.equal(inOnePiece(text, all), expected)
      assert.equal(naive(text, all), expected)
    })
  }

  it('does what the plain one does, in one piece and in pieces of any length', () => {
    fc.assert(
      fc.property(
        rewrites.chain((all) => fc.tuple(fc.constant(all), textWith(all))),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 5 }),
        ([all, text], lengths) => {
          const expected = naive(text, all)
          assert.equal(inOnePiece(text, all), expected)
          assert.equal(inPieces(text, createRewriter(all), lengths), expected)
        },
      ),
      { numRuns: 1_000 },
    )
  })

  it('finds references across a border, wherever it is', () => {
    const all = [rewriteOf(`${A}-x-1.0`, `${B}-x-1.1`), rewriteOf(`${C}-y`, `${A}-y`)]
    const text = `..${A}-x-1.0${C}-y${A}${C}`
    for (let first = 1; first < text.length; first += 1) {
      for (let second = 1; second < text.length; second += 1) {
        assert.equal(inPieces(text, createRewriter(all), [first, second, text.length]), naive(text, all))
      }
    }
  })

  it('gives back what was there when each is replaced and replaced back, unless the new one was there before', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), fc.nat(2_000), (bytes, at) => {
        const text = Buffer.from(bytes).toString('latin1')
        const original = `${text.slice(0, at)}/${A}-x/${text.slice(at)}`
        const there = inOnePiece(original, [rewriteOf(`${A}-x`, `${B}-x`)])
        assert.equal(there, `${text.slice(0, at)}/${B}-x/${text.slice(at)}`)
        assert.equal(inOnePiece(there, [rewriteOf(`${B}-x`, `${A}-x`)]), original)
      }),
    )
  })

  it('takes as many pairs as a large real path has references', () => {
    const [text, all] = chained(1_000)
    assert.equal(inOnePiece(text, all), naive(text, all))
  })

  it('refuses paths of different lengths, and two rewrites of one path', () => {
    assert.throws(() => createRewriter([rewriteOf(`${A}-x`, `${B}-xy`)]), RangeError)
    assert.throws(
      () => createRewriter([rewriteOf(`${A}-x`, `${B}-x`), rewriteOf(`${A}-x`, `${C}-x`)]),
      RangeError,
    )
  })
})
