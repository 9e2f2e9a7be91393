import { createCipheriv, createHash } from 'node:crypto'
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFolderCache } from '../../../src/cli/demo/folder-cache.ts'
import type { DemoPackage } from '../../../src/cli/demo/packages.ts'
import type { SecretKey } from '../../../src/nix/key.ts'
import { parseNarInfo } from '../../../src/nix/narinfo.ts'
import type { NarInfo } from '../../../src/nix/narinfo.ts'
import { encodeNix32 } from '../../../src/nix/nix32.ts'
import { parseStorePathBaseName } from '../../../src/nix/store-path.ts'
import type { CallOptions } from '../../../src/source.ts'

export const STORE_DIR = '/nix/store'
const FILE_BYTES = 200_000_000
const PIECE_BYTES = 4_000_000
const HASH_PART_BYTES = 20

/** A binary cache in `dir` with one signed path of 200 MB in it. */
export async function cacheOfOne(dir: string, key: SecretKey, options: CallOptions): Promise<NarInfo> {
  const one = await makePackage(`${dir}.contents`)
  await writeFolderCache(dir, [one], { key, storeDir: STORE_DIR }, options)
  await rm(one.path, { recursive: true })
  const [name] = (await readdir(dir)).filter((file) => file.endsWith('.narinfo'))
  return parseNarInfo(await readFile(join(dir, name ?? ''), 'utf8'), STORE_DIR)
}

/** No two of its leaves are equal, and none compresses. */
async function makePackage(path: string): Promise<DemoPackage> {
  const digest = createHash('sha256').update('narswarm interop').digest()
  const hashPart = encodeNix32(digest.subarray(0, HASH_PART_BYTES))
  await mkdir(join(path, 'share'), { recursive: true })
  const file = await open(join(path, 'share', 'data.bin'), 'wx')
  try {
    const zeros = Buffer.alloc(PIECE_BYTES)
    const keystream = createCipheriv('aes-128-ctr', digest.subarray(0, 16), Buffer.alloc(16))
    for (let done = 0; done < FILE_BYTES; done += PIECE_BYTES) await file.write(keystream.update(zeros))
  } finally {
    await file.close()
  }
  return { storePath: parseStorePathBaseName(`${hashPart}-interop-1.0`), references: [], path }
}
