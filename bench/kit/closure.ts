/** A closure of many paths, and the two clients that install it: a real Nix, and a lean one that does the same work. */
import { createReadStream } from 'node:fs'
import { mkdir, rm, stat } from 'node:fs/promises'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { narHashDigest } from '../../src/nix/hash.ts'
import type { BenchCache, BenchNar } from './cache.ts'
import { randomNar } from './cache.ts'
import { run } from './child.ts'
import type { JobResult } from './download.ts'
import { NIX_MAX_JOBS, nixRealise } from './nix.ts'
import { programNars } from './programs.ts'

const SMALLEST_BYTES = 4_000
/** References of each path: the whole hangs on the first. */
const CHILDREN_COUNT = 3
/** As many as Nix asks for at once (http-connections). */
const LOOK_UPS_COUNT = 25

export interface Closure {
  readonly cache: BenchCache
  /** The first refers to all others, in the end. */
  readonly nars: readonly BenchNar[]
}

/** Sizes log-uniform, `bytes` in all. With `xz` it is made of this machine's programs, else of random bytes. */
export async function addClosure(
  cache: BenchCache,
  { count, bytes, xz }: { count: number; bytes: number; xz: boolean },
): Promise<Closure> {
  const sizes = logUniform(count, bytes)
  const programs = xz ? await programNars(4) : []
  const nars: BenchNar[] = []
  let taken = 0
  for (let at = count - 1; at >= 0; at--) {
    const size = sizes[at] ?? 0
    const children = Array.from(
      { length: CHILDREN_COUNT },
      (_, child) => nars[CHILDREN_COUNT * at + child + 1],
    )
    const references = children.flatMap((child) => (child === undefined ? [] : [child.storePath]))
    const program = programs[at % programs.length]?.nar
    const nar = program === undefined ? randomNar(size) : stretchNar(program, taken, size)
    taken += size
    nars[at] = await cache.add(`closure-${at}`, nar, {
      references,
      compression: xz ? 'xz' : 'none',
      cid: true,
    })
  }
  return { cache, nars }
}

/** Equally spaced on a logarithmic scale, mixed in a fixed order so that large and small ones alternate. */
function logUniform(count: number, bytes: number): number[] {
  const sum = (largest: number): number => sizesUpTo(largest).reduce((total, size) => total + size, 0)
  const sizesUpTo = (largest: number): number[] =>
    Array.from({ length: count }, (_, at) =>
      Math.round(SMALLEST_BYTES * (largest / SMALLEST_BYTES) ** ((((at * 89) % count) + 0.5) / count)),
    )
  let low = SMALLEST_BYTES
  let high = bytes
  while (high - low > 1) {
    const middle = (low + high) / 2
    if (sum(middle) < bytes) low = middle
    else high = middle
  }
  return sizesUpTo(high)
}

/** The NAR of one file: so many bytes of `file` from `from` on, from its start again when it ends before. */
async function* stretchNar(file: string, from: number, size: number): AsyncGenerator<Uint8Array> {
  const { frame, contentStarts } = layoutNar({ type: 'regular', size, executable: false, path: '' })
  const [start = frame.length] = contentStarts
  yield frame.subarray(0, start)
  const all = (await stat(file)).size
  for (let done = 0, at = from % all; done < size; at = 0) {
    const end = Math.min(all, at + size - done)
    yield* createReadStream(file, { start: at, end: end - 1 }) as AsyncIterable<Uint8Array>
    done += end - at
  }
  yield frame.subarray(start)
}

/** Each client installs into `dir`, which is new and gone afterwards, from the cache at `url`. @returns seconds */
export type Install = (dir: string, url: string) => Promise<number>

export function nixInstall({ cache, nars: [top] }: Closure): Install {
  return async (dir, url) => {
    if (top === undefined) throw new Error('an empty closure')
    const { ms } = await nixRealise(dir, top.storePath, { url, publicKey: cache.publicKey })
    await rm(dir, { recursive: true })
    return ms / 1000
  }
}

/** @param narPath where the cache at hand has a NAR */
export function leanInstall({ nars }: Closure, narPath: (url: string, nar: BenchNar) => string): Install {
  return async (dir, url) => {
    await mkdir(dir, { recursive: true })
    const lookUps = {
      urls: nars.map(({ narInfoPath }) => `${url}/${narInfoPath}`),
      parallel: LOOK_UPS_COUNT,
      hash: false,
    }
    const files = { urls: nars.map((nar) => narPath(url, nar)), parallel: NIX_MAX_JOBS, hash: true, dir }
    const found = await run<JobResult>('client', lookUps)
    const { ms, downloads } = await run<JobResult>('client', files)
    for (const [at, { narHash, storePath }] of nars.entries()) {
      if (downloads[at]?.sha256 === Buffer.from(narHashDigest(narHash)).toString('hex')) continue
      throw new Error(`${url}: not the bytes of ${storePath}, status ${String(downloads[at]?.status)}`)
    }
    await rm(dir, { recursive: true, force: true })
    return (found.ms + ms) / 1000
  }
}
