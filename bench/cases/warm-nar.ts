/** A 200 MB NAR that is here already, against nginx with sendfile. The client is curl for both, as in Nix; it does not hash. */
import { join } from 'node:path'
import { createCache, randomNar } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { call, haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000
const ROUNDS = 7

export async function benchWarmNar({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('warm-nar', 'nginx', 'curl')) return true
  const cache = await createCache(join(dir, 'cache'))
  const nar = await cache.add('warm-1.0', randomNar(NAR_BYTES))
  const nginx = await startNginx(join(dir, 'nginx'), cache.dir)
  const node = await startNarswarm(join(dir, 'narswarm'), {
    upstreams: [nginx.url],
    trust: { keys: [cache.publicKey] },
  })
  const spooled: number[] = []
  const theirs: number[] = []
  try {
    await call('curl', ['-sf', '-o', '/dev/null', `${node.url}/${nar.narInfoPath}`])
    const ours = `${node.url}/nar/${nar.narHash}.nar`
    // In turn, since the machine's speed drifts; the first round fetches it and is not counted.
    for (let round = 0; round <= ROUNDS; round++) {
      const here = await rate(ours)
      const there = await rate(`${nginx.url}/${nar.filePath}`)
      note(`  warm NAR: narswarm ${here.toFixed(0)}, nginx ${there.toFixed(0)} MB/s`)
      if (round === 0) continue
      spooled.push(here)
      theirs.push(there)
    }
  } finally {
    await Promise.all([node.stop(), nginx.stop()])
  }
  return report({
    bench: 'warm NAR out of the spool, 200 MB',
    unit: 'MB/s',
    ours: median(spooled),
    peer: 'nginx, sendfile',
    theirs: median(theirs),
    bar: { atLeastRatio: 0.8 },
  })
}

/** MB/s. */
async function rate(url: string): Promise<number> {
  const { stdout } = await call('curl', ['-sf', '-o', '/dev/null', '-w', '%{speed_download}', url])
  return Number(stdout) / 1e6
}
