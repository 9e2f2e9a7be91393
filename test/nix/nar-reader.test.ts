import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { narStrings } from '../../src/nix/nar-encode.ts'
import { createNarReader, NarFormatError } from '../../src/nix/nar-reader.ts'
import type { NarFault, NarReaderOptions } from '../../src/nix/nar-reader.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { trees } from './nar-arbitrary.ts'
import { fileOf, narBytes, treeOf } from './nar-tree.ts'
import type { Contents } from './nar-tree.ts'

type Verdict = 'accept' | NarFault

/** What Nix 2.34.8 says of each file is in EXPECT.tsv; `stricter` marks where we refuse what it accepts. */
const CORPUS: Record<string, Verdict | { stricter: NarFault }> = {
  'case-collision.nar': 'accept',
  'case.nar': 'accept',
  'dot.nar': 'name',
  'dotdot.nar': 'name',
  'duplicate.nar': 'order',
  'empty-dir.nar': 'accept',
  'empty-subdir.nar': 'accept',
  'empty.nar': 'name',
  'executable-after-contents.nar': 'tag',
  'gen-backslash.nar': 'accept',
  'gen-casedup.nar': 'accept',
  'gen-casehackname.nar': 'accept',
  'gen-crlfname.nar': 'accept',
  'gen-depth63.nar': 'accept',
  'gen-depth64.nar': 'depth',
  'gen-dup.nar': 'order',
  'gen-exec-nonempty.nar': 'executable',
  'gen-hugelen.nar': 'tag',
  'gen-link-4095.nar': 'accept',
  'gen-link-4096.nar': 'target',
  'gen-link-empty.nar': 'target',
  'gen-link-notarget.nar': 'tag',
  'gen-link-nul.nar': 'target',
  'gen-magic2.nar': 'magic',
  'gen-name-255.nar': 'accept',
  'gen-name-256.nar': 'name',
  'gen-no-contents.nar': 'tag',
  'gen-no-type.nar': 'tag',
  'gen-nonutf8-link.nar': 'accept',
  'gen-nonutf8-name.nar': 'accept',
  'gen-ok-empty-file.nar': 'accept',
  'gen-tagpad.nar': 'padding',
  'gen-trailing-zero.nar': { stricter: 'trailing' },
  'gen-trailing.nar': { stricter: 'trailing' },
  'gen-two-contents.nar': 'tag',
  'gen-unsorted.nar': 'order',
  'invalid-tag-instead-of-contents.nar': 'tag',
  'name-after-node.nar': 'tag',
  'nul-character.nar': 'name',
  'regular-one-byte-non-zero-padding.nar': 'padding',
  'regular-one-byte-zero-padding.nar': 'accept',
  'regular-truncated-large-contents.nar': 'contents',
  'regular-truncated-padding.nar': 'truncated',
  'simple.nar': 'accept',
  'slash.nar': 'name',
  'unnormalized.nar': 'accept',
}

function judge(nar: Uint8Array, options?: NarReaderOptions, cuts: readonly number[] = []): Verdict {
  return refusal(nar, options, cuts)?.reason ?? 'accept'
}

function refusal(
  nar: Uint8Array,
  options?: NarReaderOptions,
  cuts: readonly number[] = [],
): NarFormatError | undefined {
  const reader = createNarReader(options)
  let from = 0
  try {
    for (const to of [...cuts, nar.length]) {
      reader.push(nar.subarray(from, to))
      from = to
    }
    reader.end()
    return undefined
  } catch (error) {
    assert.ok(error instanceof NarFormatError, String(error))
    return error
  }
}

const cutsWithin = (length: number): fc.Arbitrary<number[]> =>
  fc.array(fc.nat(length), { maxLength: 12 }).map((cuts) => cuts.toSorted((a, b) => a - b))

function sample(): Buffer {
  const contents: Contents = new Map()
  return narBytes({
    contents,
    root: {
      type: 'directory',
      entries: [
        { name: Buffer.from('bin'), node: fileOf(contents, Buffer.from('#!/bin/sh\n'), true) },
        {
          name: Buffer.from('lib'),
          node: {
            type: 'directory',
            entries: [{ name: Buffer.from([0xff]), node: fileOf(contents, Buffer.from('x')) }],
          },
        },
        { name: Buffer.from('link'), node: { type: 'symlink', target: Buffer.from('bin') } },
      ],
    },
  })
}

describe('createNarReader', () => {
  it('judges the corpus as Nix 2.34.8 does, or more strictly', { skip: skipWithoutVectors() }, () => {
    const dir = `${vectorsDir()}nar-corpus/`
    const rows = readFileSync(`${dir}EXPECT.tsv`, 'utf8').trimEnd().split('\n').slice(1)
    assert.equal(rows.length, 46)
    const nix: Record<string, string> = {}
    const ours: Record<string, string> = {}
    for (const row of rows) {
      const [name = '', , , , newest = ''] = row.split('\t')
      const expected = CORPUS[name]
      assert.ok(expected !== undefined, `${name} is not in the table`)
      nix[name] = newest
      ours[name] = typeof expected === 'object' || expected === 'accept' ? 'accept' : 'reject'
      const verdict = typeof expected === 'object' ? expected.stricter : expected
      assert.equal(judge(readFileSync(dir + name)), verdict, name)
    }
    assert.deepEqual(ours, nix)
  })

  it('gives the same verdict at the same byte for any chunking', { skip: skipWithoutVectors() }, () => {
    const corpus = Object.keys(CORPUS).map((name) => readFileSync(`${vectorsDir()}nar-corpus/${name}`))
    fc.assert(
      fc.property(
        fc.constantFrom(...corpus).chain((nar) => fc.tuple(fc.constant(nar), cutsWithin(nar.length))),
        ([nar, cuts]) => {
          const whole = refusal(nar)
          const chunked = refusal(nar, {}, cuts)
          assert.deepEqual([chunked?.reason, chunked?.offset], [whole?.reason, whole?.offset])
        },
      ),
      { numRuns: 500 },
    )
    for (const nar of corpus) {
      const bytewise = refusal(nar, {}, [...nar.keys()])
      assert.deepEqual([bytewise?.reason, bytewise?.offset], [refusal(nar)?.reason, refusal(nar)?.offset])
    }
  })

  it('accepts the NAR of any tree in any chunks, and tells the tree', () => {
    fc.assert(
      fc.property(
        trees()
          .map((tree) => narBytes(tree))
          .chain((nar) => fc.tuple(fc.constant(nar), cutsWithin(nar.length))),
        ([nar, cuts]) => {
          assert.equal(judge(nar, { narSize: nar.length }, cuts), 'accept')
          assert.ok(narBytes(treeOf(nar)).equals(nar))
        },
      ),
    )
  })

  it('refuses every truncation and every byte too many', () => {
    const nar = sample()
    for (let length = 0; length < nar.length; length += 1) {
      assert.equal(judge(nar.subarray(0, length)), 'truncated', `${length} bytes`)
      assert.equal(judge(nar.subarray(0, length), { narSize: nar.length }), 'truncated', `${length} bytes`)
    }
    for (const byte of [0, 1, 0x29]) {
      const longer = Buffer.concat([nar, Buffer.of(byte)])
      assert.equal(judge(longer), 'trailing')
      assert.equal(judge(longer, { narSize: nar.length }), 'trailing')
      assert.equal(judge(longer, { narSize: nar.length }, [nar.length]), 'trailing')
      assert.equal(judge(longer, { narSize: longer.length }), 'trailing')
    }
  })

  it('accepts no changed NAR but one that its own tree would make', () => {
    const nar = sample()
    let accepted = 0
    fc.assert(
      fc.property(fc.nat(nar.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const changed = Buffer.from(nar)
        changed[at] = byte
        if (judge(changed) !== 'accept') return
        accepted += 1
        assert.ok(narBytes(treeOf(changed)).equals(changed))
      }),
      { numRuns: 5000 },
    )
    assert.ok(accepted > 0)
  })

  it('refuses a NAR that is shorter or longer than its NarSize', () => {
    const nar = sample()
    assert.equal(judge(nar, { narSize: nar.length }), 'accept')
    assert.equal(judge(nar, { narSize: nar.length + 8 }), 'size')
    assert.equal(judge(nar, { narSize: nar.length - 8 }), 'size')
    assert.equal(judge(nar, { narSize: 0 }), 'size')
  })

  it('refuses contents longer than what is left, before they come', () => {
    const head = Buffer.concat([
      narStrings('nix-archive-1', '(', 'type', 'regular', 'contents'),
      Buffer.alloc(8),
    ])
    head.writeUInt32LE(17, head.length - 8)
    assert.equal(judge(head, { narSize: head.length + 16 }), 'contents')
    assert.equal(judge(head, { narSize: head.length + 40 }), 'truncated')
    head.writeUInt32LE(0x20_0000, head.length - 4)
    assert.equal(judge(head), 'contents')
  })

  it('says what was due, what came, and where', () => {
    const nar = narStrings('nix-archive-1', '(', 'type', 'socket', ')')
    const error = refusal(nar)
    assert.equal(error?.offset, 64)
    assert.equal(error?.message, 'bad NAR at byte 64: type value is due, got "socket"')
  })

  it('keeps refusing after the first error', () => {
    const reader = createNarReader()
    assert.throws(() => reader.push(Buffer.alloc(64, 'x')), NarFormatError)
    assert.throws(() => reader.push(sample()), { reason: 'magic' })
    assert.throws(() => reader.end(), { reason: 'magic' })
  })

  it('keeps no view of a chunk', () => {
    const told: string[] = []
    const reader = createNarReader({
      onEntry: (entry) =>
        told.push(
          `${entry.type} ${entry.path.map((name) => Buffer.from(name).toString('latin1')).join('/')}`,
        ),
    })
    const chunk = Buffer.alloc(5)
    const nar = sample()
    for (let at = 0; at < nar.length; at += chunk.length) {
      const size = nar.copy(chunk, 0, at, at + chunk.length)
      reader.push(chunk.subarray(0, size))
      chunk.fill(0x58)
    }
    reader.end()
    assert.deepEqual(told, ['directory ', 'regular bin', 'directory lib', 'regular lib/\xff', 'symlink link'])
  })

  it('tells size, place, executable and target of each entry', () => {
    const nar = sample()
    const told: unknown[] = []
    const reader = createNarReader({ onEntry: (entry) => told.push({ ...entry, path: entry.path.length }) })
    reader.push(nar)
    reader.end()
    assert.deepEqual(told, [
      { type: 'directory', path: 0 },
      { type: 'regular', path: 1, executable: true, size: 10, offset: nar.indexOf('#!/bin/sh') },
      { type: 'directory', path: 1 },
      { type: 'regular', path: 2, executable: false, size: 1, offset: nar.indexOf('x\0\0\0\0\0\0\0') },
      { type: 'symlink', path: 1, target: new Uint8Array(Buffer.from('bin')) },
    ])
  })

  for (const narSize of [-1, 1.5, Number.NaN])
    it(`refuses narSize ${narSize}`, () => {
      assert.throws(() => createNarReader({ narSize }), RangeError)
    })
})
