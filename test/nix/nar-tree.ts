import { createNarReader } from '../../src/nix/nar-reader.ts'
import { layoutNar, sliceLayout } from '../../src/nix/nar-layout.ts'
import type { NarDirectoryEntry, NarLayout, NarNode } from '../../src/nix/nar-layout.ts'
import type { ByteRange } from '../../src/source.ts'

/** Contents of the files of a tree that is only in memory, by the `path` of its NarFile. */
export type Contents = Map<string | Buffer, Uint8Array>

export interface MemoryTree {
  root: NarNode
  contents: Contents
}

/** The NAR of a tree, or a range of it, by way of the layout. */
export function narBytes({ root, contents }: MemoryTree, range?: ByteRange): Buffer {
  const layout = layoutNar(root)
  return sliceBytes(layout, contents, range ?? { start: 0, end: layout.narSize })
}

export function sliceBytes(layout: NarLayout, contents: Contents, range: ByteRange): Buffer {
  return Buffer.concat(
    Array.from(sliceLayout(layout, range), (piece) => {
      if (piece instanceof Uint8Array) return piece
      const file = contents.get(piece.file.path)
      if (file === undefined) throw new Error(`no contents for ${String(piece.file.path)}`)
      return file.subarray(piece.from, piece.to)
    }),
  )
}

/** The tree in a NAR, by way of the reader's entries. */
export function treeOf(nar: Uint8Array): MemoryTree {
  const contents: Contents = new Map()
  const directories = new Map<string, NarDirectoryEntry[]>()
  let root: NarNode | undefined
  const reader = createNarReader({
    narSize: nar.length,
    onEntry(entry) {
      const key = entry.path.map((name) => Buffer.from(name).toString('latin1')).join('/')
      let node: NarNode
      if (entry.type === 'regular') {
        node = { type: 'regular', size: entry.size, executable: entry.executable, path: key }
        contents.set(key, nar.subarray(entry.offset, entry.offset + entry.size))
      } else if (entry.type === 'symlink') node = { type: 'symlink', target: entry.target }
      else {
        const entries: NarDirectoryEntry[] = []
        directories.set(key, entries)
        node = { type: 'directory', entries }
      }
      const name = entry.path.at(-1)
      if (name === undefined) root = node
      else directories.get(key.split('/').slice(0, -1).join('/'))?.push({ name, node })
    },
  })
  reader.push(nar)
  reader.end()
  if (root === undefined) throw new Error('a NAR without a root')
  return { root, contents }
}

/** A file in memory whose contents are their own path in the map. */
export function fileOf(contents: Contents, bytes: Uint8Array, executable = false): NarNode {
  const path = `file ${contents.size}`
  contents.set(path, bytes)
  return { type: 'regular', size: bytes.length, executable, path }
}
