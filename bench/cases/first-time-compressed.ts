/** NARs of programs that nobody here has seen, compressed at their upstream: against the decoder's own program alone. */
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { createCache } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { askLikeNix, ofNarswarm } from '../kit/first-time.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { call, haveAll } from '../kit/program.ts'
import { programNars } from '../kit/programs.ts'
import { median, note, report } from '../kit/report.ts'

/** The first of them warms up and is not counted. */
const NARS_COUNT = 4
const BARS = { xz: 0.6, zstd: 0.3 } as const

export async function benchFirstTimeCompressed({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('first-time-compressed', 'nginx', 'xz', 'zstd')) return true
  const programs = await programNars(NARS_COUNT)
  const cache = await createCache(join(dir, 'cache'))
  const nginx = await startNginx(join(dir, 'nginx'), cache.dir)
  let passed = true
  try {
    for (const compression of ['xz', 'zstd'] as const) {
      const node = await startNarswarm(join(dir, compression), {
        upstreams: [nginx.url],
        trust: { keys: [cache.publicKey] },
      })
      const ours: number[] = []
      const theirs: number[] = []
      try {
        for (const [at, program] of programs.entries()) {
          const packed = program[compression]
          const how = { compression, packed }
          const nar = await cache.add(`programs-${at}`, createReadStream(program.nar), how)
          const through = (await askLikeNix(node.url, [nar], ofNarswarm)).rate
          const { ms } = await call(compression, ['-dc', packed], { discard: true })
          const alone = nar.narSize / ms / 1000
          note(
            `  ${compression} of ${(nar.narSize / 1e6).toFixed(0)} MB: through ${through.toFixed(0)}, ${compression} -dc ${alone.toFixed(0)} MB/s`,
          )
          if (at === 0) continue
          ours.push(through)
          theirs.push(alone)
        }
      } finally {
        await node.stop()
      }
      const figure = {
        bench: `${compression} NAR of programs seen for the first time, about 100 MB`,
        unit: 'MB/s',
        ours: median(ours),
        peer: `${compression} -dc alone`,
        theirs: median(theirs),
        bar: { atLeastRatio: BARS[compression] },
      } as const
      passed = report(figure) && passed
    }
  } finally {
    await nginx.stop()
  }
  return passed
}
