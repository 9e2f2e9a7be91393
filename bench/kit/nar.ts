/** A package of one large file of random bytes, as a store path would hold it. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'

const PIECE_BYTES = 4 * 1024 * 1024

export interface BenchPackage {
  readonly storePath: StorePath
  readonly references: readonly StorePath[]
  readonly path: string
}

export async function makePackage(dir: string, name: string, bytes: number): Promise<BenchPackage> {
  const storePath = parseStorePathBaseName(`${encodeNix32(randomBytes(20))}-${name}`)
  const path = join(dir, storePath)
  await mkdir(path, { recursive: true })
  const file = await open(join(path, 'data.bin'), 'wx')
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), Buffer.alloc(16))
  const zeros = Buffer.alloc(PIECE_BYTES)
  try {
    for (let done = 0; done < bytes; done += PIECE_BYTES) {
      await file.write(cipher.update(zeros.subarray(0, Math.min(PIECE_BYTES, bytes - done))))
    }
  } finally {
    await file.close()
  }
  return { storePath, references: [], path }
}
