/**
 * What an older path costs: rewriting and proving a NAR against hashing it alone, finding that there is none, coding leaves
 * as the difference from older ones against coding them plainly, and one that does not give the NAR against a plain fetch.
 */
import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { writeFolderCache } from '../../src/cli/demo/folder-cache.ts'
import { REWRITE_QUIET_MS } from '../../src/limits.ts'
import { formatPublicKey, generateSecretKey } from '../../src/nix/key.ts'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { createRewriter } from '../../src/nix/rewriter.ts'
import type { ByteRange } from '../../src/source.ts'
import { streamNar } from '../../src/store/nar-stream.ts'
import { streamRewritten } from '../../src/store/rewritten-nar.ts'
import { walkStorePath } from '../../src/store/walk.ts'
import { run } from '../kit/child.ts'
import type { BenchContext } from '../kit/context.ts'
import { startLimited } from '../kit/limited.ts'
import { makeRebuild, rebuildPairs } from '../kit/rebuild.ts'
import { median, note, report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000
const DIFFERENCES_BYTES = 60_000_000
const SHIFT_EVERY_BYTES = 20_000
const GUESSED_BYTES = 100_000_000
/** Quick, so that the rounds are over soon: only first bytes are timed. */
const LINE_BYTES_PER_SECOND = 1_000_000_000
const ROUNDS = 5
const PAIRS_COUNTS = [1, 30] as const
const PATHS_COUNT = 200_000
const LOOK_UPS_COUNT = 20_000

export async function benchUpgrade({ dir }: BenchContext): Promise<boolean> {
  const rewritten = await benchRewriting(dir)
  const missed = await benchMisses(dir)
  const coded = await benchDifferences(dir)
  const waited = await benchFailingGuesses(dir)
  return rewritten && missed && coded && waited
}

interface FirstBytes {
  readonly hashing: readonly number[]
  readonly plain: readonly number[]
  readonly guessed: Readonly<Record<string, readonly number[]>>
}

/** What an older path that does not give the NAR costs: of another content, gone, on a disk that hangs. */
async function benchFailingGuesses(dir: string): Promise<boolean> {
  const pairs = rebuildPairs(30)
  const [itself] = pairs
  if (itself === undefined) return false
  const older = await makeRebuild(join(dir, 'guessed'), GUESSED_BYTES, pairs)
  const key = generateSecretKey('bench-1', randomBytes)
  // As large as the older one and as it was: made of that one, with other references in it, it would be another.
  const wanted = { storePath: itself.to, references: pairs.map(({ to }) => to), path: older }
  const cache = join(dir, 'cache')
  const signal = AbortSignal.timeout(600_000)
  await writeFolderCache(cache, [wanted], { key, storeDir: '/nix/store' }, { signal })
  const upstream = await startLimited(cache, LINE_BYTES_PER_SECOND)
  try {
    const { hashing, plain, guessed } = await run<FirstBytes>('first-byte', {
      dir,
      older,
      url: upstream.url,
      key: formatPublicKey(key.publicKey),
      pairs: pairs.length,
      rounds: ROUNDS,
    })
    const hashingMs = median(hashing)
    note(
      `  first byte plainly after ${median(plain).toFixed(1)} ms; hashing the older path takes ${hashingMs.toFixed(0)} ms`,
    )
    let passed = true
    for (const [kind, times] of Object.entries(guessed)) {
      const reached = report({
        bench: `first byte after that of a plain fetch, older path ${kind}, 100 MB`,
        unit: 'ms',
        ours: median(times) - median(plain),
        bar: { below: Math.round(REWRITE_QUIET_MS + hashingMs) },
      })
      passed = reached && passed
    }
    return passed
  } finally {
    await upstream.stop()
  }
}

interface Coded {
  readonly bytes: number
  readonly plainMs: number
  readonly differenceMs: number
  readonly plainBytes: number
  readonly differenceBytes: number
}

/** Rebuilds, whose leaves differ in their references; and what a new version may be, all of whose bytes have moved a little. */
async function benchDifferences(dir: string): Promise<boolean> {
  let passed = true
  const olderTree = await makeRebuild(join(dir, 'older'), DIFFERENCES_BYTES, rebuildPairs(30))
  const older = await readFile(await dump(olderTree, join(dir, 'older.nar')))
  const files = { rebuilds: join(dir, 'rebuilt.nar'), shifted: join(dir, 'shifted.nar') }
  const rewriter = createRewriter(rebuildPairs(30))
  const old = {
    narSize: older.length,
    read: (range: ByteRange, target: Uint8Array) => {
      target.set(older.subarray(range.start, range.end))
      return Promise.resolve()
    },
  }
  const signal = AbortSignal.timeout(600_000)
  const whole = { start: 0, end: older.length }
  await pipeline(
    Readable.from(streamRewritten(old, rewriter, whole, { signal })),
    createWriteStream(files.rebuilds),
  )
  await writeFile(files.shifted, shift(older))
  for (const [kind, file] of Object.entries(files)) {
    const ours: number[] = []
    const floor: number[] = []
    for (let round = 0; round <= ROUNDS; round++) {
      const told = await run<Coded>('code-leaves', { file, olderFile: join(dir, 'older.nar'), round })
      const { bytes, plainMs, differenceMs, plainBytes, differenceBytes } = told
      const rates = { difference: bytes / differenceMs / 1000, plain: bytes / plainMs / 1000 }
      note(
        `  ${kind}: dcz ${rates.difference.toFixed(0)} MB/s to ${(differenceBytes / 1e6).toFixed(3)} MB, zstd ${rates.plain.toFixed(0)} MB/s to ${(plainBytes / 1e6).toFixed(1)} MB`,
      )
      if (round === 0) continue
      ours.push(rates.difference)
      floor.push(rates.plain)
    }
    const reached = report({
      bench: `coding leaves by difference, programs, ${kind}`,
      unit: 'MB/s',
      ours: median(ours),
      peer: 'zstd level 3 of the same leaves',
      theirs: median(floor),
      bar: { atLeastRatio: 0.5 },
    })
    passed = reached && passed
  }
  return passed
}

/** Some bytes more here, some less there. */
function shift(bytes: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += SHIFT_EVERY_BYTES) {
    parts.push(bytes.subarray(at + 13, at + SHIFT_EVERY_BYTES), Buffer.from(`moved ${at}`))
  }
  return Buffer.concat(parts)
}

async function benchRewriting(dir: string): Promise<boolean> {
  let passed = true
  for (const kind of ['with references', 'as they are'] as const) {
    const references = kind === 'as they are' ? [] : rebuildPairs(Math.max(...PAIRS_COUNTS))
    const path = await makeRebuild(join(dir, kind), NAR_BYTES, references)
    const file = await dump(path, join(dir, `${kind}.nar`))
    const ours = new Map<number, number[]>(PAIRS_COUNTS.map((pairs) => [pairs, []]))
    const floor: number[] = []
    // In turn, since the machine's speed drifts; the first round warms up and is not counted.
    for (let round = 0; round <= ROUNDS; round++) {
      const told: string[] = []
      for (const [pairs, rates] of ours) {
        const { bytes, ms } = await run<{ ms: number; bytes: number }>('rewrite', { path, pairs })
        told.push(`${pairs} pairs ${(bytes / ms / 1000).toFixed(0)}`)
        if (round > 0) rates.push(bytes / ms / 1000)
      }
      const { bytes, ms } = await run<{ ms: number; bytes: number }>('sha256', { file })
      if (round > 0) floor.push(bytes / ms / 1000)
      note(`  programs ${kind}: ${told.join(', ')}, sha256 ${(bytes / ms / 1000).toFixed(0)} MB/s`)
    }
    for (const [pairs, rates] of ours) {
      const reached = report({
        bench: `rewriting and proving programs ${kind}, 200 MB, ${pairs} pairs`,
        unit: 'MB/s',
        ours: median(rates),
        peer: 'sha256 of the file',
        theirs: median(floor),
        bar: { atLeastRatio: 0.4 },
      })
      passed = reached && passed
    }
  }
  return passed
}

async function benchMisses(dir: string): Promise<boolean> {
  const { filledMs, p99Ms, maxMs } = await run<{ filledMs: number; p99Ms: number; maxMs: number }>(
    'relatives',
    {
      database: join(dir, 'db.sqlite'),
      paths: PATHS_COUNT,
      lookUps: LOOK_UPS_COUNT,
    },
  )
  note(
    `  names of ${PATHS_COUNT} paths read in ${filledMs.toFixed(0)} ms; longest miss ${maxMs.toFixed(1)} ms`,
  )
  return report({
    bench: 'no older path among 200,000, p99',
    unit: 'ms',
    ours: p99Ms,
    bar: { below: 2 },
  })
}

async function dump(path: string, file: string): Promise<string> {
  const signal = AbortSignal.timeout(600_000)
  const layout = layoutNar(await walkStorePath(path, { signal }))
  const bytes = streamNar(layout, { start: 0, end: layout.narSize }, { signal })
  await pipeline(Readable.from(bytes), createWriteStream(file))
  return file
}
