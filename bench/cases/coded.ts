/** A NAR from one narswarm to another over a link of 100 Mbit/s: of programs, whose leaves travel coded, and of random bytes. */
import { peakMemory, run, serve } from '../kit/child.ts'
import type { BenchContext } from '../kit/context.ts'
import { startLink } from '../kit/limited.ts'
import { note, report } from '../kit/report.ts'

const BYTES_PER_SECOND = 12_500_000
const CASES = [
  { contents: 'programs', bytes: 200_000_000, bar: { atLeastRatio: 2.5 } },
  { contents: 'random', bytes: 100_000_000, bar: { atLeastRatio: 0.9 } },
] as const

interface Timed {
  readonly ms: number
  readonly bytes: number
}

interface Fetched extends Timed {
  readonly wireBytes: number
  readonly rssMb: number
}

const MAX_RSS_MB = 400

export async function benchCoded({ setUp }: BenchContext): Promise<boolean> {
  let passed = true
  for (const { contents, bytes, bar } of CASES) {
    const nar = await setUp(contents, bytes, contents)
    const plain = await serve<{ port: number }>('plain-server', { file: nar.narFile })
    const toPlain = await startLink(`http://127.0.0.1:${plain.ready.port}`, BYTES_PER_SECOND)
    const toUs = await startLink(nar.gateway, BYTES_PER_SECOND)
    try {
      const raw = await run<Timed>('plain-client', { url: `${toPlain.url}/` })
      const client = { narInfo: nar.narInfo, key: nar.key, gateway: toUs.url }
      const ours = await run<Fetched>('fetch', { ...client, dir: await nar.fresh() })
      note(
        `  ${contents}: ${(ours.bytes / 1e6).toFixed(1)} MB, ${(ours.wireBytes / 1e6).toFixed(1)} on the wire`,
      )
      passed =
        report({
          bench: `fetch over a link of 100 Mbit/s, ${contents}`,
          unit: 'MB/s',
          ours: ours.bytes / ours.ms / 1000,
          peer: 'plain HTTP file download over the same link',
          theirs: raw.bytes / raw.ms / 1000,
          bar,
        }) && passed
      const memory = { receiver: ours.rssMb, sender: await peakMemory(nar.pid) }
      for (const [whose, mb] of Object.entries(memory)) {
        const bench = `RSS of the ${whose}, ${contents} over 100 Mbit/s`
        passed = report({ bench, unit: 'MB', ours: mb, bar: { below: MAX_RSS_MB } }) && passed
      }
    } finally {
      await Promise.all([toUs.stop(), toPlain.stop(), plain.stop(), nar.stop()])
    }
  }
  return passed
}
