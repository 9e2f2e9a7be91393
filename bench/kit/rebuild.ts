/** A tree of programs as an older store path would hold it, and which of the paths in it have become which. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import type { Rewrite } from '../../src/nix/rewriter.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { programs } from './programs.ts'

/** About as far apart as in the libraries and scripts of a real closure. */
const REFERENCE_EVERY_BYTES = 50_000

/** The path itself, and `count - 1` references; the same ones for the same count. */
export function rebuildPairs(count: number): [Rewrite, ...Rewrite[]] {
  const libraries = Array.from({ length: count - 1 }, (_, at) => pairOf(`library-${at}.0`))
  return [pairOf('rebuild-1.0'), ...libraries]
}

function pairOf(name: string): Rewrite {
  return { from: pathOf(name, 'old'), to: pathOf(name, 'new') }
}

function pathOf(name: string, which: string): StorePath {
  const hash = createHash('sha256').update(`${which} ${name}`).digest().subarray(0, 20)
  return parseStorePathBaseName(`${encodeNix32(hash)}-${name}`)
}

/** Programs of this machine, of `bytes` at most. @param references written over their bytes here and there; none: as they are */
export async function makeRebuild(
  dir: string,
  bytes: number,
  references: readonly Rewrite[],
): Promise<string> {
  await mkdir(dir, { recursive: true })
  let left = bytes
  let written = 0
  for (const [at, { path, size }] of (await programs()).entries()) {
    if (size > left) continue
    left -= size
    const contents = await readFile(path)
    for (let place = REFERENCE_EVERY_BYTES / 2; place + 100 < size; place += REFERENCE_EVERY_BYTES) {
      const reference = references[written++ % Math.max(1, references.length)]
      if (reference !== undefined) contents.write(`/nix/store/${reference.from}/lib`, place, 'latin1')
    }
    await writeFile(join(dir, `${at}-${basename(path)}`), contents)
  }
  return dir
}
