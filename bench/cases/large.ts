/** A 4 GiB NAR: memory of both processes while it moves. */
import { peakMemory, run } from '../kit/child.ts'
import { note, report } from '../kit/report.ts'
import type { BenchContext } from '../kit/context.ts'

const NAR_BYTES = 4 * 1024 ** 3
const MAX_RSS_MB = 400

export async function benchLarge({ setUp }: BenchContext): Promise<boolean> {
  const nar = await setUp('large', NAR_BYTES)
  let passed = true
  try {
    const { narInfo, key, gateway, peer } = nar
    for (const [title, source] of [
      ['HTTP', { gateway }],
      ['bitswap', { peer }],
    ] as const) {
      const dir = await nar.fresh()
      const { ms, bytes, rssMb } = await run<{ ms: number; bytes: number; rssMb: number }>('fetch', {
        dir,
        narInfo,
        key,
        ...source,
      })
      note(`  4 GiB over ${title}: ${(bytes / ms / 1000).toFixed(0)} MB/s`)
      const bar = { below: MAX_RSS_MB }
      passed =
        report({ bench: `RSS of the receiver, 4 GiB over ${title}`, unit: 'MB', ours: rssMb, bar }) && passed
      const sender = await peakMemory(nar.pid)
      passed =
        report({ bench: `RSS of the sender, 4 GiB over ${title}`, unit: 'MB', ours: sender, bar }) && passed
    }
  } finally {
    await nar.stop()
  }
  return passed
}
