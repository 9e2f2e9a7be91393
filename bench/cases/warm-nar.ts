/** A 200 MB NAR that is here already, against nginx with sendfile. The client is curl for both, as in Nix; it does not hash. */
import { existsSync } from 'node:fs'
import { link } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createCache, randomNar } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { inTurn, rate } from '../kit/in-turn.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import type { Narswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { nixRealise } from '../kit/nix.ts'
import { call, haveAll } from '../kit/program.ts'
import { report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000

export async function benchWarmNar({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('warm-nar', 'nginx', 'curl')) return true
  const cache = await createCache(join(dir, 'cache'))
  const nar = await cache.add('warm-1.0', randomNar(NAR_BYTES))
  const nginx = await startNginx(join(dir, 'nginx'), cache.dir)
  const trust = { keys: [cache.publicKey] }
  const nodes: Narswarm[] = []
  const start = async (name: string, settings: Record<string, unknown>): Promise<void> => {
    const node = await startNarswarm(join(dir, name), { trust, ...settings })
    nodes.push(node)
    // Nobody is given a NAR before its narinfo.
    await call('curl', ['-sf', '-o', '/dev/null', `${node.url}/${nar.narInfoPath}`])
  }
  let rates: number[] = []
  try {
    await start('spooling', { upstreams: [nginx.url] })
    if (haveAll('warm-nar, out of a store', 'nix-store')) {
      const from = { url: nginx.url, publicKey: cache.publicKey }
      const { root } = await nixRealise(join(dir, 'nix'), nar.storePath, from)
      await start('storing', { store_root: root })
    }
    const [spool, store] = nodes.map(({ url }) => `${url}/nar/${nar.narHash}.nar`)
    await rate(spool ?? '')
    // nginx sends the very file that narswarm sends: how a file was written decides how its pages lie in memory.
    const spoolFile = join(dir, 'spooling', 'state', 'spool', nar.narHash.slice(0, 2), `${nar.narHash}.nar`)
    // Safe on disk a moment after the answer.
    while (!existsSync(spoolFile)) await sleep(20)
    await link(spoolFile, join(cache.dir, 'spooled.nar'))
    rates = await inTurn('warm NAR', {
      'out of the spool': () => rate(spool ?? ''),
      nginx: () => rate(`${nginx.url}/spooled.nar`),
      ...(store !== undefined && { 'out of the store': () => rate(store) }),
    })
  } finally {
    await Promise.all([...nodes.map((node) => node.stop()), nginx.stop()])
  }
  const [ours = 0, theirs = 0, stored] = rates
  const peer = { unit: 'MB/s', peer: 'nginx, sendfile', theirs } as const
  if (stored !== undefined) {
    report({ ...peer, bench: 'warm NAR out of a Nix store, 200 MB', ours: stored, bar: 'none' })
  }
  return report({ ...peer, bench: 'warm NAR out of the spool, 200 MB', ours, bar: { atLeastRatio: 0.8 } })
}
