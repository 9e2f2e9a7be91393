import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { PAIRINGS_MAX_COUNT, RELATIVES_MAX_COUNT } from '../../src/limits.ts'
import { parseNarHash } from '../../src/nix/hash.ts'
import { createRewriter } from '../../src/nix/rewriter.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import type { PathInfo } from '../../src/store/path-info.ts'
import { findRelatives, pairReferences } from '../../src/store/relatives.ts'

/** `a-zlib` for the path whose hash part is 32 times `a`. */
function path(text: string): StorePath {
  return parseStorePathBaseName(`${text.charAt(0).repeat(32)}${text.slice(1)}`)
}

function short(storePath: StorePath): string {
  return `${storePath.charAt(0)}${storePath.slice(32)}`
}

interface Case {
  readonly title: string
  readonly old: [storePath: string, ...references: string[]]
  readonly wanted: [storePath: string, ...references: string[]]
  /** `a-zlib>b-zlib`; without the path itself, which is always the first. */
  readonly pairings: string[][]
  readonly isComplete: boolean
}

const CASES: Case[] = [
  {
    title: 'no references',
    old: ['a-x'],
    wanted: ['b-x'],
    pairings: [[]],
    isComplete: true,
  },
  {
    title: 'one that changed, one that stayed',
    old: ['a-x', 'c-zlib-1', 'd-glibc-2'],
    wanted: ['b-x', 'f-zlib-1', 'd-glibc-2'],
    pairings: [['c-zlib-1>f-zlib-1']],
    isComplete: true,
  },
  {
    title: 'both refer to themselves',
    old: ['a-x', 'a-x'],
    wanted: ['b-x', 'b-x'],
    pairings: [[]],
    isComplete: true,
  },
  {
    title: 'only the old one refers to itself',
    old: ['a-x', 'a-x'],
    wanted: ['b-x'],
    pairings: [[]],
    isComplete: false,
  },
  {
    title: 'a new version of the same length',
    old: ['a-x', 'c-openssl-3.0.20'],
    wanted: ['b-x', 'd-openssl-3.0.22'],
    pairings: [['c-openssl-3.0.20>d-openssl-3.0.22']],
    isComplete: true,
  },
  {
    title: 'a new version of another length',
    old: ['a-x', 'c-openssl-3.0.9'],
    wanted: ['b-x', 'd-openssl-3.0.10'],
    pairings: [[]],
    isComplete: false,
  },
  {
    title: 'another package',
    old: ['a-x', 'c-zlib-1.2'],
    wanted: ['b-x', 'd-gzip-1.2'],
    pairings: [[]],
    isComplete: false,
  },
  {
    title: 'the same name before the same package',
    old: ['a-x', 'c-zlib-1.2', 'd-zlib-1.3'],
    wanted: ['b-x', 'f-zlib-1.4', 'g-zlib-1.2'],
    pairings: [['c-zlib-1.2>g-zlib-1.2', 'd-zlib-1.3>f-zlib-1.4']],
    isComplete: true,
  },
  {
    title: 'two of one name',
    old: ['a-x', 'c-glibc', 'd-glibc'],
    wanted: ['b-x', 'f-glibc', 'g-glibc'],
    pairings: [
      ['c-glibc>f-glibc', 'd-glibc>g-glibc'],
      ['c-glibc>g-glibc', 'd-glibc>f-glibc'],
    ],
    isComplete: true,
  },
  {
    title: 'two of one name, one of which stayed',
    old: ['a-x', 'c-glibc', 'd-glibc'],
    wanted: ['b-x', 'c-glibc', 'g-glibc'],
    pairings: [['d-glibc>g-glibc']],
    isComplete: true,
  },
  {
    title: 'two of one name have become one',
    old: ['a-x', 'c-glibc', 'd-glibc'],
    wanted: ['b-x', 'f-glibc'],
    pairings: [['c-glibc>f-glibc']],
    isComplete: false,
  },
  {
    title: 'the old path is a reference of the new one',
    old: ['a-x'],
    wanted: ['b-x', 'a-x'],
    pairings: [[]],
    isComplete: false,
  },
]

describe('pairReferences', () => {
  for (const { title, old, wanted, pairings, isComplete } of CASES) {
    it(title, () => {
      const [from, to] = [old, wanted].map(([storePath, ...references]) => ({
        storePath: path(storePath),
        references: references.map(path),
      }))
      const found = pairReferences(from ?? assert.fail(), to ?? assert.fail())
      const itself = `${old[0]}>${wanted[0]}`
      assert.deepEqual(
        found.pairings.map((pairs) => pairs.map((pair) => `${short(pair.from)}>${short(pair.to)}`)),
        pairings.map((pairs) => [itself, ...pairs]),
      )
      assert.equal(found.isComplete, isComplete)
    })
  }

  it('tries first what proved right in another path', () => {
    const old = { storePath: path('a-x'), references: ['c-glibc', 'd-glibc', 'h-glibc'].map(path) }
    const wanted = { storePath: path('b-x'), references: ['f-glibc', 'g-glibc', 'i-glibc'].map(path) }
    const { pairings } = pairReferences(
      old,
      wanted,
      ({ from, to }) => from === path('d-glibc') && to === path('f-glibc'),
    )
    assert.deepEqual(
      pairings[0]?.slice(1).map(({ from, to }) => `${short(from)}>${short(to)}`),
      ['c-glibc>g-glibc', 'd-glibc>f-glibc', 'h-glibc>i-glibc'],
    )
  })

  it('gives a bounded number of different pairings that a rewriter takes, whatever the references', () => {
    const reference = fc
      .tuple(
        fc.constantFrom(...'abcdfghijk'.split('')),
        fc.constantFrom('glibc', 'zlib-1.2', 'zlib-1.3', 'zlib-1.10'),
      )
      .map(([char, name]) => path(`${char}-${name}`))
    const references = fc.uniqueArray(reference, { maxLength: 12, selector: (one) => one.charAt(0) })
    fc.assert(
      fc.property(references, references, (before, after) => {
        const { pairings } = pairReferences(
          { storePath: path('x-it'), references: before },
          { storePath: path('y-it'), references: after },
        )
        assert.ok(pairings.length >= 1 && pairings.length <= PAIRINGS_MAX_COUNT)
        assert.equal(new Set(pairings.map((pairs) => JSON.stringify(pairs))).size, pairings.length)
        for (const pairs of pairings) {
          createRewriter(pairs)
          assert.equal(new Set(pairs.map(({ to }) => to)).size, pairs.length)
        }
      }),
    )
  })
})

describe('findRelatives', () => {
  const hash = (char: string) => parseNarHash(`sha256:${char.repeat(52)}`)
  const wanted = {
    storePath: path('b-x-1'),
    narHash: hash('0'),
    narSize: 96,
    references: [path('g-zlib')],
  }
  const infoOf = (text: string, references: string[], narHash = hash('1')): PathInfo => ({
    storePath: path(text),
    narHash,
    narSize: 96,
    references: references.map(path),
    signatures: [],
    ultimate: false,
    registeredAt: 0,
  })
  const find = (infos: readonly PathInfo[]) =>
    findRelatives(wanted, {
      store: { pathInfo: (part) => infos.find(({ storePath }) => hashPartOf(storePath) === part) },
      names: {
        sameName: (name, narSize) =>
          name === 'x-1' && narSize === 96
            ? [path('b-x-1'), path('z-x-1'), ...infos.map((one) => one.storePath)]
            : [],
      },
      isKnown: () => false,
    })

  it('takes those of which the whole may be right first, and neither the wanted path nor one that is gone', () => {
    const relatives = find([
      infoOf('c-x-1', ['h-gzip']),
      infoOf('d-x-1', ['i-zlib']),
      infoOf('f-x-1', ['j-zlib']),
    ])
    assert.deepEqual(
      relatives.map(({ storePath, isComplete }) => [short(storePath), isComplete]),
      [
        ['d-x-1', true],
        ['f-x-1', true],
        ['c-x-1', false],
      ],
    )
  })

  it('are few, though more are looked at for one that may be right', () => {
    const others = ['h', 'i', 'j', 'k', 'l'].map((char) => infoOf(`${char}-x-1`, ['c-gzip']))
    const relatives = find([...others, infoOf('d-x-1', ['i-zlib'])])
    assert.equal(relatives.length, RELATIVES_MAX_COUNT)
    assert.equal(short(relatives[0]?.storePath ?? assert.fail()), 'd-x-1')
  })

  it('changes nothing in a path that has the wanted bytes', () => {
    assert.deepEqual(find([infoOf('c-x-1', ['h-zlib'], wanted.narHash)]), [
      { storePath: path('c-x-1'), pairings: [[]], isComplete: true },
    ])
  })
})
