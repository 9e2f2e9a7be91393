/** Publishing a 200 MB store path: NAR made, hashed, cut into leaves, indexed, entered into the feed. */
import { run } from '../kit/child.ts'
import { median, note, report } from '../kit/report.ts'
import type { BenchContext } from '../kit/context.ts'

const NAR_BYTES = 200_000_000
const ROUNDS = 5

export async function benchPublish({ setUp }: BenchContext): Promise<boolean> {
  const nar = await setUp('publish', NAR_BYTES)
  const ours: number[] = []
  const floor: number[] = []
  try {
    for (let round = 0; round <= ROUNDS; round++) {
      const { narInfo, key, path } = nar
      const published = await run<{ ms: number; bytes: number }>('publish', {
        dir: await nar.fresh(),
        narInfo,
        key,
        path,
      })
      const hashed = await run<{ ms: number; bytes: number }>('sha256', { file: nar.narFile })
      if (round === 0) continue
      ours.push(published.bytes / published.ms / 1000)
      floor.push(hashed.bytes / hashed.ms / 1000)
      note(`  publish ${ours.at(-1)?.toFixed(0)}, sha256 ${floor.at(-1)?.toFixed(0)} MB/s`)
    }
  } finally {
    await nar.stop()
  }
  return report({
    bench: 'publish (hash, CID, index, feed), 200 MB',
    unit: 'MB/s',
    ours: median(ours),
    peer: 'sha256 of the file',
    theirs: median(floor),
    bar: { atLeastRatio: 0.4 },
  })
}
