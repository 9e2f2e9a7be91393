/** A closure of 200 paths with every peer dead, against the same client straight from the same upstream; then warm. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createCache } from '../kit/cache.ts'
import type { BenchNar } from '../kit/cache.ts'
import { addClosure, leanInstall, nixInstall } from '../kit/closure.ts'
import type { Install } from '../kit/closure.ts'
import type { BenchContext } from '../kit/context.ts'
import { startDeadHosts } from '../kit/dead.ts'
import { ofNarswarm, ofUpstream } from '../kit/first-time.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { startLimited } from '../kit/limited.ts'
import { startNginx } from '../kit/nginx.ts'
import { call, find, haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'

const PATHS_COUNT = 200
const ROUNDS = 3
const GIGABIT_BYTES_PER_S = 125_000_000
/** Packing a gigabyte as xz would take minutes. */
const FORMS: readonly Form[] = [
  { title: '1 GB uncompressed', bytes: 1_000_000_000 },
  { title: '1 GB uncompressed at 1 Gbit/s', bytes: 1_000_000_000, bytesPerSecond: GIGABIT_BYTES_PER_S },
  { title: '200 MB as xz', bytes: 200_000_000, xz: true },
]
/** Nobody has its key. */
const NOBODY = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

interface Form {
  readonly title: string
  readonly bytes: number
  readonly xz?: boolean
  /** Of the upstream, over all its connections. */
  readonly bytesPerSecond?: number
}

export async function benchDeadPeers({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('dead-peers', 'nginx')) return true
  const hasNix = find('nix-store') !== undefined
  if (!hasNix) note('  no nix-store on this machine: only the lean client')
  const dead = await startDeadHosts()
  let passed = true
  try {
    for (const [at, form] of FORMS.entries()) {
      if (form.xz && !haveAll('dead-peers, xz', 'nix-store', 'xz')) continue
      passed = (await benchForm(join(dir, String(at)), form, { hasNix, deadPorts: dead.ports })) && passed
    }
  } finally {
    await dead.stop()
  }
  return passed
}

async function benchForm(
  dir: string,
  { title, bytes, xz = false, bytesPerSecond }: Form,
  { hasNix, deadPorts }: { hasNix: boolean; deadPorts: readonly number[] },
): Promise<boolean> {
  const cache = await createCache(join(dir, 'cache'))
  const closure = await addClosure(cache, { count: PATHS_COUNT, bytes, xz })
  const upstream =
    bytesPerSecond === undefined
      ? await startNginx(join(dir, 'nginx'), cache.dir)
      : await startLimited(cache.dir, bytesPerSecond)
  const lean = (narPath: (nar: BenchNar) => string): Install =>
    leanInstall(closure, (url, nar) => `${url}/${narPath(nar)}`)
  const nix = nixInstall(closure)
  const clients = [
    ...(hasNix ? [{ name: 'nix-store -r', through: nix, straight: nix }] : []),
    // It does not decompress.
    ...(xz ? [] : [{ name: 'lean client', through: lean(ofNarswarm), straight: lean(ofUpstream) }]),
  ]
  let passed = true
  try {
    for (const client of clients) {
      const bench = `closure of 200 paths, ${title}, every peer dead, ${client.name}`
      const place = { dir, upstream: upstream.url, publicKey: cache.publicKey }
      passed = (await compare(bench, place, client, deadPorts)) && passed
    }
  } finally {
    await upstream.stop()
    await rm(dir, { recursive: true })
  }
  return passed
}

async function compare(
  bench: string,
  { dir, upstream, publicKey }: { dir: string; upstream: string; publicKey: string },
  client: { through: Install; straight: Install },
  deadPorts: readonly number[],
): Promise<boolean> {
  const seconds = { straight: [] as number[], cold: [] as number[], warm: [] as number[] }
  // In turn, since the machine's speed drifts. What was written before is on disk, or it would slow the next down.
  for (let round = 0; round < ROUNDS; round++) {
    const place = join(dir, 'client')
    const state = join(dir, 'narswarm')
    const node = await startNarswarm(state, {
      upstreams: [upstream],
      trust: { keys: [publicKey] },
      peers: {
        urls: deadPorts.map((port) => `http://127.0.0.1:${port}`),
        addrs: deadPorts.map((port) => `/ip4/127.0.0.1/tcp/${port}/p2p/${NOBODY}`),
      },
    })
    try {
      await call('sync', [])
      seconds.straight.push(await client.straight(place, upstream))
      await call('sync', [])
      seconds.cold.push(await client.through(place, node.url))
      await call('sync', [])
      seconds.warm.push(await client.through(place, node.url))
    } finally {
      await node.stop()
    }
    await rm(state, { recursive: true })
    const [straight, cold, warm] = [seconds.straight, seconds.cold, seconds.warm].map((all) =>
      all.at(-1)?.toFixed(2),
    )
    note(`  ${bench}: straight ${straight}, first time ${cold}, warm ${warm} s`)
  }
  const theirs = { peer: 'straight from the same upstream', theirs: median(seconds.straight) }
  const cold = report({
    bench: `${bench}, first time`,
    unit: 's',
    ours: median(seconds.cold),
    ...theirs,
    bar: { atMostRatio: 1.05 },
  })
  const warm = report({
    bench: `${bench}, warm`,
    unit: 's',
    ours: median(seconds.warm),
    ...theirs,
    bar: { atMostRatio: 1 },
  })
  return cold && warm
}
