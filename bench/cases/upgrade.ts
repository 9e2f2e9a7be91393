/** What an older path costs: rewriting and proving a NAR against hashing it alone, and finding that there is none. */
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { streamNar } from '../../src/store/nar-stream.ts'
import { walkStorePath } from '../../src/store/walk.ts'
import { run } from '../kit/child.ts'
import type { BenchContext } from '../kit/context.ts'
import { makeRebuild, rebuildPairs } from '../kit/rebuild.ts'
import { median, note, report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000
const ROUNDS = 5
const PAIRS_COUNTS = [1, 30] as const
const PATHS_COUNT = 200_000
const LOOK_UPS_COUNT = 20_000

export async function benchUpgrade({ dir }: BenchContext): Promise<boolean> {
  const rewritten = await benchRewriting(dir)
  const missed = await benchMisses(dir)
  return rewritten && missed
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
