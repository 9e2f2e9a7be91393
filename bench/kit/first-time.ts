/** What a client sees that asks for a NAR as Nix does: its narinfo, at once the NAR, and its hash at the end. */
import { narHashDigest } from '../../src/nix/hash.ts'
import type { BenchNar } from './cache.ts'
import { run } from './child.ts'
import type { JobResult } from './download.ts'

interface Seen {
  /** MB/s of the NAR, its narinfo's time counted in. */
  readonly rate: number
  /** From the request for the NAR, one a NAR. */
  readonly firstBytesMs: readonly number[]
}

/**
 * @param url of a cache that has them uncompressed, each asked for after the other
 * @param options.hash whether the client hashes what it gets; else only its length is looked at
 */
export async function askLikeNix(
  url: string,
  nars: readonly BenchNar[],
  narPath: (nar: BenchNar) => string,
  { hash }: { hash: boolean } = { hash: true },
): Promise<Seen> {
  const urls = nars.flatMap((nar) => [`${url}/${nar.narInfoPath}`, `${url}/${narPath(nar)}`])
  const { ms, downloads } = await run<JobResult>('client', { urls, parallel: 1, hash })
  const firstBytesMs = nars.map((nar, at) => {
    const got = downloads[2 * at + 1]
    const isRight = hash
      ? got?.sha256 === Buffer.from(narHashDigest(nar.narHash)).toString('hex')
      : got?.bytes === nar.narSize
    if (got === undefined || !isRight) {
      throw new Error(`${url}: not the bytes of ${nar.storePath}, status ${String(got?.status)}`)
    }
    return got.firstByteMs
  })
  return { rate: nars.reduce((sum, { narSize }) => sum + narSize, 0) / ms / 1000, firstBytesMs }
}

export const ofNarswarm = (nar: BenchNar): string => `nar/${nar.narHash}.nar`
export const ofUpstream = (nar: BenchNar): string => nar.filePath
