/** A few packages out of nothing: one large, some small, with what a store path can hold. */
import { createCipheriv, createHash } from 'node:crypto'
import { chmod, mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeNix32 } from '../../nix/nix32.ts'
import { parseStorePathBaseName } from '../../nix/store-path.ts'
import type { StorePath } from '../../nix/store-path.ts'

export interface DemoPackage {
  readonly storePath: StorePath
  readonly references: readonly StorePath[]
  /** Folder or file with its contents. */
  readonly path: string
}

const LARGE_BYTES = 100_000_000
const PIECE_BYTES = 1_000_000
/** First bytes of a sha256, as many as a store path's hash part has. */
const HASH_PART_BYTES = 20

/** Makes them in `dir`; the same names and contents each time. */
export async function makePackages(dir: string): Promise<DemoPackage[]> {
  const library = demoPath('demo-library-1.0')
  const data = demoPath('demo-data-1.0')
  const program = demoPath('demo-program-1.0')
  const manual = demoPath('demo-manual-1.0')
  const at = (path: StorePath): string => join(dir, path)

  await mkdir(join(at(library), 'lib'), { recursive: true })
  await writeFile(join(at(library), 'lib', 'libdemo.so.1.0'), keystream('library', 300_000))
  await symlink('libdemo.so.1.0', join(at(library), 'lib', 'libdemo.so'))

  await mkdir(join(at(data), 'share', 'empty'), { recursive: true })
  await writeLarge(join(at(data), 'share', 'data.bin'))

  await mkdir(join(at(program), 'bin'), { recursive: true })
  const script = `#!/bin/sh\nexec /nix/store/${library}/lib/libdemo.so --data /nix/store/${data}/share "$@"\n`
  await writeFile(join(at(program), 'bin', 'demo'), script)
  await chmod(join(at(program), 'bin', 'demo'), 0o755)

  await writeFile(at(manual), 'demo: a program that does nothing, from many places at once.\n')

  return [
    { storePath: library, references: [library], path: at(library) },
    { storePath: data, references: [], path: at(data) },
    { storePath: program, references: [data, library], path: at(program) },
    { storePath: manual, references: [], path: at(manual) },
  ]
}

function demoPath(name: string): StorePath {
  const digest = createHash('sha256').update(`narswarm demo ${name}`).digest()
  return parseStorePathBaseName(`${encodeNix32(digest.subarray(0, HASH_PART_BYTES))}-${name}`)
}

/** Bytes that do not compress and are the same each time: the leaves of a NAR that nothing makes easy to move. */
function keystream(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

async function writeLarge(path: string): Promise<void> {
  const file = await open(path, 'wx')
  try {
    for (let done = 0; done < LARGE_BYTES; done += PIECE_BYTES) {
      await file.write(keystream(`data ${done}`, PIECE_BYTES))
    }
  } finally {
    await file.close()
  }
}
