import * as fc from 'fast-check'
import type { NarNode } from '../../src/nix/nar-layout.ts'
import { fileOf } from './nar-tree.ts'
import type { Contents, MemoryTree } from './nar-tree.ts'

type Shape =
  | { type: 'regular'; bytes: Uint8Array; executable: boolean }
  | { type: 'symlink'; target: Uint8Array }
  | { type: 'directory'; children: { name: Uint8Array; node: Shape }[] }

const legalByte = fc.integer({ min: 1, max: 255 }).filter((byte) => byte !== 0x2f)
const name = fc
  .oneof(
    fc.array(legalByte, { minLength: 1, maxLength: 20 }),
    fc.constantFrom([0x61], [0x61, 0x2e], [0xff, 0xfe]),
  )
  .map((bytes) => Uint8Array.from(bytes))
  .filter((bytes) => !['.', '..'].includes(Buffer.from(bytes).toString('latin1')))
const target = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 40 })
  .map((bytes) => Uint8Array.from(bytes))

const shapes = fc.letrec<{ node: Shape }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.record({
      type: fc.constant('regular' as const),
      bytes: fc.uint8Array({ maxLength: 40 }),
      executable: fc.boolean(),
    }),
    fc.record({ type: fc.constant('symlink' as const), target }),
    fc.record({
      type: fc.constant('directory' as const),
      children: fc.uniqueArray(fc.record({ name, node: tie('node') }), {
        maxLength: 6,
        selector: (child) => Buffer.from(child.name).toString('latin1'),
      }),
    }),
  ),
})).node

/** Small trees with every type of node, odd names, and contents of every padding. */
export function trees(): fc.Arbitrary<MemoryTree> {
  return shapes.map((shape) => {
    const contents: Contents = new Map()
    return { root: nodeOf(shape, contents), contents }
  })
}

function nodeOf(shape: Shape, contents: Contents): NarNode {
  if (shape.type === 'regular') return fileOf(contents, shape.bytes, shape.executable)
  if (shape.type === 'symlink') return shape
  return {
    type: 'directory',
    entries: shape.children.map((child) => ({ name: child.name, node: nodeOf(child.node, contents) })),
  }
}
