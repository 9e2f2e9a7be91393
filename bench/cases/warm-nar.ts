/** A 200 MB NAR that is here already, against nginx with sendfile. The client is curl for both, as in Nix; it does not hash. */
import { existsSync } from 'node:fs'
import { link } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createCache, randomNar } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import type { Narswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { nixRealise } from '../kit/nix.ts'
import { call, haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'

const NAR_BYTES = 200_000_000
const ROUNDS = 15
/** Not counted: 1 GB until V8 has compiled what it runs often. */
const UNCOUNTED_ROUNDS = 5

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
  const rates: { spool: number[]; store: number[]; nginx: number[] } = { spool: [], store: [], nginx: [] }
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
    // In turn, since the machine's speed drifts.
    for (let round = 0; round < UNCOUNTED_ROUNDS + ROUNDS; round++) {
      const ours = await rate(spool ?? '')
      const ofStore = store === undefined ? undefined : await rate(store)
      const theirs = await rate(`${nginx.url}/spooled.nar`)
      const stored = ofStore === undefined ? '' : `, out of the store ${ofStore.toFixed(0)}`
      note(`  warm NAR: out of the spool ${ours.toFixed(0)}${stored}, nginx ${theirs.toFixed(0)} MB/s`)
      if (round < UNCOUNTED_ROUNDS) continue
      rates.spool.push(ours)
      if (ofStore !== undefined) rates.store.push(ofStore)
      rates.nginx.push(theirs)
    }
  } finally {
    await Promise.all([...nodes.map((node) => node.stop()), nginx.stop()])
  }
  const peer = { unit: 'MB/s', peer: 'nginx, sendfile', theirs: median(rates.nginx) } as const
  const stored = { bench: 'warm NAR out of a Nix store, 200 MB', ours: median(rates.store) }
  if (rates.store.length > 0) report({ ...peer, ...stored, bar: 'none' })
  const spooled = { bench: 'warm NAR out of the spool, 200 MB', ours: median(rates.spool) }
  return report({ ...peer, ...spooled, bar: { atLeastRatio: 0.8 } })
}

/** MB/s. */
async function rate(url: string): Promise<number> {
  const { stdout } = await call('curl', ['-sf', '-o', '/dev/null', '-w', '%{speed_download}', url])
  return Number(stdout) / 1e6
}
