/** 64 clients that pull 64 different NARs of 200 MB, none of them here: memory of the one that gets them all. */
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { peakMemory, run, serve } from '../kit/child.ts'
import type { BenchContext } from '../kit/context.ts'
import type { JobResult } from '../kit/download.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { note, report } from '../kit/report.ts'

const CLIENTS_COUNT = 64
const NAR_BYTES = 200_000_000
/** Of the free disk, for the spool. */
const DISK_SHARE = 0.7
const MAX_RSS_MB = 600

interface Upstream {
  readonly port: number
  readonly publicKey: string
  readonly nars: readonly { readonly narInfoPath: string; readonly narHash: string }[]
}

export async function benchMany({ dir }: BenchContext): Promise<boolean> {
  const { bavail, bsize } = await statfs(dir)
  const bytes = Math.min(NAR_BYTES, Math.floor((bavail * bsize * DISK_SHARE) / CLIENTS_COUNT))
  const size = `${(bytes / 1e6).toFixed(0)} MB${bytes < NAR_BYTES ? ' (the disk has no more)' : ''}`
  const upstream = await serve<Upstream>('synthetic-cache', { count: CLIENTS_COUNT, bytes })
  const { port, publicKey, nars } = upstream.ready
  const node = await startNarswarm(join(dir, 'narswarm'), {
    upstreams: [`http://127.0.0.1:${port}`],
    trust: { keys: [publicKey] },
  })
  try {
    const pull = (paths: readonly string[]): Promise<JobResult> => {
      const urls = paths.map((path) => `${node.url}/${path}`)
      return run<JobResult>('client', { urls, parallel: CLIENTS_COUNT, hash: false })
    }
    await pull(nars.map(({ narInfoPath }) => narInfoPath))
    const { ms, downloads } = await pull(nars.map(({ narHash }) => `nar/${narHash}.nar`))
    const whole = downloads.filter(({ status }) => status === 200)
    const got = whole.reduce((sum, one) => sum + one.bytes, 0)
    const longest = Math.max(...downloads.map(({ firstByteMs }) => firstByteMs))
    const longestText = `the last first byte after ${longest.toFixed(0)} ms`
    note(`  ${whole.length} NARs of ${size} in ${(ms / 1000).toFixed(1)} s; ${longestText}`)
    report({ bench: `64 clients, 64 NARs of ${size}`, unit: 'MB/s', ours: got / ms / 1000, bar: 'none' })
    const small = report({
      bench: `RSS while 64 clients pull 64 NARs of ${size}`,
      unit: 'MB',
      ours: await peakMemory(node.pid),
      bar: { below: MAX_RSS_MB },
    })
    const all = report({
      bench: 'of the 64, clients that were given no NAR',
      unit: 'clients',
      ours: CLIENTS_COUNT - whole.length,
      bar: { below: 1 },
    })
    return small && all
  } finally {
    await Promise.all([node.stop(), upstream.stop()])
  }
}
