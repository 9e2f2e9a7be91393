import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { layoutNar } from '../../../src/nix/nar-layout.ts'
import type { NarDirectoryEntry } from '../../../src/nix/nar-layout.ts'
import { streamNar } from '../../../src/store/nar-stream.ts'

/** A compiler's library, then whole compilers with all that comes with them, then other libraries and programs. */
const PLACES: readonly (readonly [dir: string, wanted: RegExp])[] = [
  ['/usr/lib', /\/lib(?:LLVM|clang)[^/]*\.so[^/]*$/],
  ['/usr/lib/gcc', /./],
  ['/usr/lib', /\.so[^/]*$/],
  ['/usr/bin', /./],
]

/** The NAR of a folder with so many bytes of this machine's programs, or less when it has no more. */
export async function programNar(bytes: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  const entries: NarDirectoryEntry[] = []
  const inodes = new Set<number>()
  let left = bytes
  for (const [dir, wanted] of PLACES) {
    for (const path of (await filesBelow(dir)).filter((path) => wanted.test(path))) {
      const { ino, size } = await stat(path)
      if (size > left || inodes.has(ino)) continue
      inodes.add(ino)
      left -= size
      const name = Buffer.from(`${String(entries.length).padStart(5, '0')}-${basename(path)}`)
      entries.push({ name, node: { type: 'regular', size, executable: true, path } })
    }
  }
  const layout = layoutNar({ type: 'directory', entries })
  return streamNar(layout, { start: 0, end: layout.narSize }, { signal })
}

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .toSorted()
}
