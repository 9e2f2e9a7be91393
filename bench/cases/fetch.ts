/** A 200 MB NAR from one narswarm to another, each in its process: over HTTP and over bitswap. */
import { join } from 'node:path'
import { run, serve } from '../kit/child.ts'
import { median, note, report } from '../kit/report.ts'
import type { BenchContext } from '../kit/context.ts'

interface Timed {
  ms: number
  bytes: number
}

const NAR_BYTES = 200_000_000
const ROUNDS = 5

export async function benchFetch({ setUp }: BenchContext): Promise<boolean> {
  const nar = await setUp('fetch', NAR_BYTES)
  const plain = await serve<{ port: number }>('plain-server', { file: nar.narFile })
  const helia = await serve<{ address: string; cids: string[] }>('helia-server', { file: nar.narFile })
  const rates = {
    http: [] as number[],
    plain: [] as number[],
    kept: [] as number[],
    bitswap: [] as number[],
    helia: [] as number[],
  }
  try {
    const client = { narInfo: nar.narInfo, key: nar.key }
    // In turn, since the machine's speed drifts; the first round warms the page cache and is not counted.
    for (let round = 0; round <= ROUNDS; round++) {
      const http = rate(await run('fetch', { ...client, dir: await nar.fresh(), gateway: nar.gateway }))
      const bare = rate(await run('plain-client', { url: `http://127.0.0.1:${plain.ready.port}/` }))
      const file = join(await nar.fresh(), 'nar')
      const kept = rate(await run('plain-client', { url: `http://127.0.0.1:${plain.ready.port}/`, file }))
      const bitswap = rate(await run('fetch', { ...client, dir: await nar.fresh(), peer: nar.peer }))
      const theirs = rate(await run('helia-client', helia.ready))
      note(
        `  http ${http.toFixed(0)}, plain ${bare.toFixed(0)} (kept ${kept.toFixed(0)}), bitswap ${bitswap.toFixed(0)}, helia ${theirs.toFixed(0)} MB/s`,
      )
      if (round === 0) continue
      rates.http.push(http)
      rates.plain.push(bare)
      rates.kept.push(kept)
      rates.bitswap.push(bitswap)
      rates.helia.push(theirs)
    }
  } finally {
    await Promise.all([plain.stop(), helia.stop(), nar.stop()])
  }
  const http = { bench: 'fetch over HTTP, 200 MB', unit: 'MB/s', ours: median(rates.http) } as const
  // What we fetch is on disk and safe at its end; the download that is not kept shows what that and three more hashes cost.
  const overHttp = report({
    ...http,
    peer: 'plain HTTP file download with sha256',
    theirs: median(rates.kept),
    bar: { atLeastRatio: 0.7 },
  })
  report({ ...http, peer: 'the same, hashed and not kept', theirs: median(rates.plain), bar: 'none' })
  const overBitswap = report({
    bench: 'fetch over bitswap, 200 MB',
    unit: 'MB/s',
    ours: median(rates.bitswap),
    peer: 'two plain Helia over TLS',
    theirs: median(rates.helia),
    bar: { atLeastRatio: 1 },
  })
  return overHttp && overBitswap
}

function rate({ ms, bytes }: Timed): number {
  return bytes / ms / 1000
}
