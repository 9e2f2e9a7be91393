import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { describe, it } from 'node:test'
import * as fc from 'fast-check'
import { layoutNar, NarTreeError, sliceLayout } from '../../src/nix/nar-layout.ts'
import type { NarNode } from '../../src/nix/nar-layout.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { trees } from './nar-arbitrary.ts'
import { narBytes, sliceBytes, treeOf } from './nar-tree.ts'

const file = (size: number): NarNode => ({ type: 'regular', size, executable: false, path: 'f' })
const directory = (...names: (string | Buffer)[]): NarNode => ({
  type: 'directory',
  entries: names.map((name) => ({ name: Buffer.from(name), node: file(0) })),
})
const nested = (levels: number): NarNode =>
  levels === 0
    ? file(1)
    : { type: 'directory', entries: [{ name: Buffer.from('d'), node: nested(levels - 1) }] }

describe('layoutNar', () => {
  it('gives back the bytes of the genuine NARs', { skip: skipWithoutVectors() }, () => {
    const dir = `${vectorsDir()}nar/`
    const nars = readdirSync(dir).filter((name) => name.endsWith('.nar'))
    assert.equal(nars.length, 9)
    for (const name of nars) {
      const nar = readFileSync(dir + name)
      assert.ok(narBytes(treeOf(nar)).equals(nar), name)
    }
  })

  it('orders names by bytes, not by UTF-16 units', () => {
    const names = [
      Buffer.from('\u{10000}'),
      Buffer.from('\uffff'),
      Buffer.from([0xff]),
      'a',
      'Z',
      'a.b',
      'a-b',
    ]
    const nar = narBytes({ root: directory(...names), contents: new Map() })
    const { root } = treeOf(nar)
    assert.ok(root.type === 'directory')
    assert.deepEqual(
      root.entries.map(({ name }) => Buffer.from(name).toString('latin1')),
      ['Z', 'a', 'a-b', 'a.b', '\u00ef\u00bf\u00bf', '\u00f0\u0090\u0080\u0080', '\u00ff'],
    )
  })

  it('knows sizes past 4 GiB', () => {
    const size = 2 ** 32 + 5
    const layout = layoutNar(file(size))
    assert.equal(layout.narSize, 112 + 2 ** 32 + 8)
    const [frame, contents] = [...sliceLayout(layout, { start: 88, end: 100 })]
    assert.deepEqual(Buffer.from(frame as Uint8Array).toString('hex'), '0500000001000000')
    assert.deepEqual(contents, { file: file(size), from: 0, to: 4 })
    const tail = [...sliceLayout(layout, { start: 96 + size - 1, end: layout.narSize })]
    assert.deepEqual(tail[0], { file: file(size), from: size - 1, to: size })
    assert.equal(
      Buffer.from(tail[1] as Uint8Array).toString('latin1'),
      '\0\0\0\x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0',
    )
  })

  it('puts 63 directories above a file and no more', () => {
    layoutNar(nested(63))
    assert.throws(() => layoutNar(nested(64)), NarTreeError)
  })

  for (const [title, root] of Object.entries<NarNode>({
    'empty name': directory(''),
    'name .': directory('.'),
    'name ..': directory('..'),
    'name with a slash': directory('a/b'),
    'name with a NUL': directory('a\0b'),
    'name of 256 bytes': directory('n'.repeat(256)),
    'same name twice': directory('a', 'b', 'a'),
    'empty target': { type: 'symlink', target: new Uint8Array() },
    'target with a NUL': { type: 'symlink', target: Buffer.from('a\0') },
    'target of 4096 bytes': { type: 'symlink', target: Buffer.alloc(4096, 'a') },
    'size -1': file(-1),
    'size 0.5': file(0.5),
    'size NaN': file(Number.NaN),
    'size 2^53': file(2 ** 53),
    'size over 1 TiB': file(2 ** 40),
  }))
    it(`refuses ${title}`, () => {
      assert.throws(() => layoutNar(root), NarTreeError)
    })

  it('takes names ... and ..a, of 255 bytes, and with ~nix~case~hack~', () => {
    layoutNar(directory('...', '..a', '.a', 'n'.repeat(255), 'a~nix~case~hack~1'))
  })
})

describe('sliceLayout', () => {
  it('equals the slice of the whole, for any tree and range', () => {
    fc.assert(
      fc.property(trees(), fc.nat(), fc.nat(), (tree, one, other) => {
        const layout = layoutNar(tree.root)
        const whole = sliceBytes(layout, tree.contents, { start: 0, end: layout.narSize })
        assert.equal(whole.length, layout.narSize)
        const [start, end] = [one % (whole.length + 1), other % (whole.length + 1)].toSorted(
          (a, b) => a - b,
        ) as [number, number]
        assert.ok(sliceBytes(layout, tree.contents, { start, end }).equals(whole.subarray(start, end)))
      }),
    )
  })

  it('gives no empty pieces', () => {
    fc.assert(
      fc.property(trees(), (tree) => {
        const layout = layoutNar(tree.root)
        for (const piece of sliceLayout(layout, { start: 0, end: layout.narSize }))
          assert.ok(piece instanceof Uint8Array ? piece.length > 0 : piece.from < piece.to)
        assert.deepEqual([...sliceLayout(layout, { start: 5, end: 5 })], [])
      }),
    )
  })

  for (const [start, end] of [
    [-1, 5],
    [5, 4],
    [0, 113],
    [0.5, 4],
    [0, Number.NaN],
  ] as const)
    it(`refuses [${start}, ${end}) of 112 bytes`, () => {
      assert.throws(() => sliceLayout(layoutNar(file(0)), { start, end }), RangeError)
    })
})
