/** A binary cache in a folder, for nginx to serve: NARs made of nothing, signed with a key of its own. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { mkdir, open, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createPlanner } from '../../src/dag/planner.ts'
import { formatCacheInfo } from '../../src/nix/cache-info.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import type { NarHash } from '../../src/nix/hash.ts'
import { formatPublicKey, generateSecretKey } from '../../src/nix/key.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import type { Compression } from '../../src/nix/narinfo.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { sign } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { call } from './program.ts'

const STORE_DIR = '/nix/store'
const PIECE_BYTES = 1024 * 1024
const HASH_PART_BYTES = 20

export interface BenchNar {
  readonly storePath: StorePath
  readonly narHash: NarHash
  readonly narSize: number
  /** `<hash part>.narinfo`. */
  readonly narInfoPath: string
  /** `nar/…`, as the cache itself has it, compressed or not. */
  readonly filePath: string
}

export interface BenchCache {
  readonly dir: string
  readonly publicKey: string
  /** Writes it as it comes and compresses it afterwards. */
  add(name: string, nar: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, how?: Packing): Promise<BenchNar>
}

interface Packing {
  readonly references?: readonly StorePath[]
  readonly compression?: Extract<Compression, 'none' | 'xz' | 'zstd'>
  /** File that has it compressed already. */
  readonly packed?: string
  /** Tell its root, so that blocks are asked of peers first. */
  readonly cid?: boolean
}

const SUFFIX = { none: '', xz: '.xz', zstd: '.zst' } as const

export async function createCache(dir: string): Promise<BenchCache> {
  const key = generateSecretKey('bench-1', randomBytes)
  await mkdir(join(dir, 'nar'), { recursive: true })
  const info = formatCacheInfo({ storeDir: STORE_DIR, wantMassQuery: true, priority: 40 })
  await writeFile(join(dir, 'nix-cache-info'), info)
  let count = 0
  return {
    dir,
    publicKey: formatPublicKey(key.publicKey),
    async add(name, nar, { references = [], compression = 'none', packed, cid = false } = {}) {
      const storePath = parseStorePathBaseName(`${encodeNix32(randomBytes(HASH_PART_BYTES))}-${name}`)
      const temporary = join(dir, 'nar', `${++count}.tmp`)
      const planner = createPlanner()
      const file = packed === undefined ? await open(temporary, 'wx') : undefined
      for await (const bytes of nar) {
        planner.update(bytes)
        await file?.writeFile(bytes)
      }
      await file?.close()
      if (compression !== 'none' && file !== undefined) await pack(compression, temporary)
      const { narHash, narSize, root } = planner.finish()
      const filePath = `nar/${narHash}.nar${SUFFIX[compression]}`
      if (packed === undefined) await rename(`${temporary}${SUFFIX[compression]}`, join(dir, filePath))
      else await symlink(packed, join(dir, filePath))
      const signed = { storePath, narHash, narSize, references }
      const text = formatNarInfo(
        {
          ...signed,
          url: filePath,
          compression,
          fileSize: (await stat(join(dir, filePath))).size,
          signatures: [sign(key, fingerprint(signed, STORE_DIR))],
          ...(cid ? { cid: root.toString() } : {}),
        },
        STORE_DIR,
      )
      const narInfoPath = `${hashPartOf(storePath)}.narinfo`
      await writeFile(join(dir, narInfoPath), text)
      return { storePath, narHash, narSize, narInfoPath, filePath }
    },
  }
}

async function pack(compression: 'xz' | 'zstd', file: string): Promise<void> {
  await call(compression, ['-q', '-k', file])
  await rm(file)
}

/** The NAR of one file of so many random bytes. */
export function* randomNar(bytes: number): Generator<Uint8Array> {
  const { frame, contentStarts } = layoutNar({ type: 'regular', size: bytes, executable: false, path: '' })
  const [start = frame.length] = contentStarts
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), Buffer.alloc(16))
  const zeros = Buffer.alloc(PIECE_BYTES)
  yield frame.subarray(0, start)
  for (let left = bytes; left > 0; left -= PIECE_BYTES) {
    yield cipher.update(zeros.subarray(0, Math.min(PIECE_BYTES, left)))
  }
  yield frame.subarray(start)
}
