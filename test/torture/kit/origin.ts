/** Binary caches of the true paths, as answers in memory: what a fault proxy stands before. */
import { execFileSync, spawnSync } from 'node:child_process'
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { formatCacheInfo } from '../../../src/nix/cache-info.ts'
import { formatNarInfo } from '../../../src/nix/narinfo.ts'
import type { Compression } from '../../../src/nix/narinfo.ts'
import type { Random } from './random.ts'
import { STORE_DIR } from './world.ts'
import type { TruePath } from './world.ts'

export interface Asked {
  /** With its query. */
  readonly path: string
  readonly method: string
  readonly range?: string
  readonly headers: Readonly<Record<string, string | undefined>>
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/** Who knows the truth, or a part of it. */
export type Target = (asked: Asked) => Promise<Answer>

const COMPRESS: Record<Compression, (bytes: Buffer) => Buffer> = {
  none: (bytes) => bytes,
  gzip: (bytes) => gzipSync(bytes, { level: 1 }),
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
  zstd: (bytes) => zstdCompressSync(bytes),
  xz: (bytes) => byProgram('xz', bytes),
  bzip2: (bytes) => byProgram('bzip2', bytes),
}

const MAX_OUTPUT_BYTES = 64 * 2 ** 20
/** Slow at 20 MB: bunzip2 is JavaScript, and xz takes seconds to make. */
const SLOW_MAX_BYTES = 5_000_000

function byProgram(program: string, bytes: Buffer): Buffer {
  return execFileSync(program, ['-1', '-c'], { input: bytes, maxBuffer: MAX_OUTPUT_BYTES })
}

function available(): Compression[] {
  const programs = (['xz', 'bzip2'] as const).filter(
    (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0,
  )
  return ['none', 'none', 'gzip', 'br', 'zstd', ...programs]
}

/** A cache of all the paths, each in a compression of its own choice. */
export function createOrigin(paths: readonly TruePath[], random: Random): Target {
  const compressions = available()
  const files = new Map<string, { type: string; body: Uint8Array }>()
  const info = formatCacheInfo({ storeDir: STORE_DIR, wantMassQuery: true, priority: random.int(10, 50) })
  files.set('/nix-cache-info', { type: 'text/x-nix-cache-info', body: Buffer.from(info) })
  for (const path of paths) {
    const { narHash, bytes, plan } = path.nar
    const choice = random.pick(compressions)
    const slow = choice === 'xz' || choice === 'bzip2'
    const compression = slow && bytes.length > SLOW_MAX_BYTES ? 'zstd' : choice
    const url = `nar/${narHash}.nar.${compression}`
    const known = files.get(`/${url}`)
    if (known === undefined) {
      files.set(`/${url}`, { type: 'application/x-nix-nar', body: COMPRESS[compression](bytes) })
    }
    const text = formatNarInfo(
      {
        storePath: path.storePath,
        url,
        compression,
        narHash,
        narSize: bytes.length,
        references: path.references,
        signatures: [path.signature],
        ...(random.chance(0.5) ? { cid: plan.root.toString() } : {}),
      },
      STORE_DIR,
    )
    files.set(`/${path.hashPart}.narinfo`, { type: 'text/x-nix-narinfo', body: Buffer.from(text) })
  }
  return async ({ path, range }) => {
    const file = files.get(path)
    if (file === undefined) return { status: 404, headers: {}, body: Buffer.from('404') }
    const headers = { 'Content-Type': file.type, 'Accept-Ranges': 'bytes' }
    const from = Number(/^bytes=([0-9]+)-$/.exec(range ?? '')?.[1] ?? 0)
    if (from === 0) return { status: 200, headers, body: file.body }
    const { length } = file.body
    if (from >= length)
      return { status: 416, headers: { 'Content-Range': `bytes */${length}` }, body: Buffer.alloc(0) }
    const part = { ...headers, 'Content-Range': `bytes ${from}-${length - 1}/${length}` }
    return { status: 206, headers: part, body: file.body.subarray(from) }
  }
}
