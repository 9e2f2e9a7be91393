/** NARs that nobody here has seen, from an upstream that has them uncompressed: against the same upstream asked directly. */
import { join } from 'node:path'
import { createCache, randomNar } from '../kit/cache.ts'
import type { BenchCache, BenchNar } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { askLikeNix, ofNarswarm, ofUpstream } from '../kit/first-time.ts'
import { startLimited } from '../kit/limited.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import type { Narswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000
const ROUNDS = 5
const LIMITED_ROUNDS = 2
/** 100 Mbit/s. */
const LIMITED_BYTES_PER_S = 12_500_000
/** For the first byte: larger than what is held back at the end. */
const SMALL_BYTES = 2_000_000
const SMALL_COUNT = 20

export async function benchFirstTime({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('first-time', 'nginx')) return true
  const cache = await createCache(join(dir, 'cache'))
  const nginx = await startNginx(join(dir, 'nginx'), cache.dir)
  const limited = await startLimited(cache.dir, LIMITED_BYTES_PER_S)
  try {
    const onLoopback = await compare(join(dir, 'fast'), cache, nginx.url, ROUNDS, {
      title: 'nginx on loopback',
      atLeastRatio: 0.6,
    })
    const onLine = await compare(join(dir, 'slow'), cache, limited.url, LIMITED_ROUNDS, {
      title: 'upstream limited to 100 Mbit/s',
      atLeastRatio: 0.97,
    })
    return onLoopback && onLine
  } finally {
    await Promise.all([nginx.stop(), limited.stop()])
  }
}

/** The first of the NARs warms up and is not counted. */
async function compare(
  dir: string,
  cache: BenchCache,
  upstream: string,
  rounds: number,
  { title, atLeastRatio }: { title: string; atLeastRatio: number },
): Promise<boolean> {
  const warmUp = await cache.add('warm-up', randomNar(NAR_BYTES / 10))
  const nars = await addMany(cache, rounds, NAR_BYTES)
  const hashed = await addMany(cache, rounds, NAR_BYTES)
  const small = await addMany(cache, SMALL_COUNT, SMALL_BYTES)
  const node: Narswarm = await startNarswarm(dir, {
    upstreams: [upstream],
    trust: { keys: [cache.publicKey] },
  })
  const ours: number[] = []
  const oursHashed: number[] = []
  const theirs: number[] = []
  const later: number[] = []
  try {
    await askLikeNix(node.url, [warmUp], ofNarswarm)
    for (const [at, nar] of nars.entries()) {
      const through = (await askLikeNix(node.url, [nar], ofNarswarm, { hash: false })).rate
      const straight = (await askLikeNix(upstream, [nar], ofUpstream)).rate
      const twice = (await askLikeNix(node.url, hashed.slice(at, at + 1), ofNarswarm)).rate
      note(
        `  first time, ${title}: through ${through.toFixed(1)}, to a client that hashes as well ${twice.toFixed(1)}, straight with sha256 ${straight.toFixed(1)} MB/s`,
      )
      ours.push(through)
      oursHashed.push(twice)
      theirs.push(straight)
    }
    const through = (await askLikeNix(node.url, small, ofNarswarm)).firstBytesMs
    const straight = (await askLikeNix(upstream, small, ofUpstream)).firstBytesMs
    note(
      `  first byte, ${title}: through ${median(through).toFixed(1)}, straight ${median(straight).toFixed(1)} ms`,
    )
    through.forEach((ms, at) => later.push(ms - (straight[at] ?? 0)))
  } finally {
    await node.stop()
  }
  const fast = report({
    bench: `NAR seen for the first time, 200 MB, ${title}`,
    unit: 'MB/s',
    ours: median(ours),
    peer: 'a plain download with sha256 straight from it',
    theirs: median(theirs),
    bar: { atLeastRatio },
  })
  report({
    bench: `the same to a client that hashes it once more, ${title}`,
    unit: 'MB/s',
    ours: median(oursHashed),
    peer: 'a plain download with sha256 straight from it',
    theirs: median(theirs),
    bar: 'none',
  })
  const soon = report({
    bench: `first byte later than straight from it, ${title}`,
    unit: 'ms',
    ours: median(later),
    bar: { below: 20 },
  })
  return fast && soon
}

async function addMany(cache: BenchCache, count: number, bytes: number): Promise<BenchNar[]> {
  const nars: BenchNar[] = []
  for (let at = 0; at < count; at++) nars.push(await cache.add(`first-${at}`, randomNar(bytes)))
  return nars
}
