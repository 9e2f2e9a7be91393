import { open, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { layoutNar } from '../../../src/nix/nar-layout.ts'
import type { NarDirectoryEntry } from '../../../src/nix/nar-layout.ts'
import { streamNar } from '../../../src/store/nar-stream.ts'

/** Compilers first, then the libraries that they use, then all the rest. */
const PLACES: readonly (readonly [dir: string, wanted: RegExp])[] = [
  ['/usr/lib/gcc', /./],
  ['/usr/lib', /\/(?:libLLVM|libclang|libstdc\+\+|libc\.so|libicu|libpython|libperl)[^/]*\.so[^/]*$/],
  ['/usr/bin', /./],
]
const ELF_MAGIC = '\u007fELF'

/** The NAR of a folder with so many bytes of this machine's programs, or less when it has no more. */
export async function programNar(bytes: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
  const entries: NarDirectoryEntry[] = []
  const inodes = new Set<number>()
  let left = bytes
  for (const [dir, wanted] of PLACES) {
    for (const path of (await filesBelow(dir)).filter((path) => wanted.test(path))) {
      const { ino, size } = await stat(path)
      if (size > left || inodes.has(ino) || !(await isProgram(path))) continue
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

async function isProgram(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0)
    return buffer.toString('latin1') === ELF_MAGIC
  } finally {
    await file.close()
  }
}
