/** Narinfos that were answered before, against nginx on static files of the same bytes. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createCache, randomNar } from '../kit/cache.ts'
import type { BenchContext } from '../kit/context.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { startNginx } from '../kit/nginx.ts'
import { haveAll } from '../kit/program.ts'
import { median, note, report } from '../kit/report.ts'
import { runWrk } from '../kit/wrk.ts'
import type { WrkResult } from '../kit/wrk.ts'

const NARINFOS_COUNT = 200
const ROUNDS = 3
const SECONDS = 5

export async function benchWarmNarInfo({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('warm-narinfo', 'nginx', 'wrk')) return true
  const cache = await createCache(join(dir, 'cache'))
  const paths: string[] = []
  const nars = []
  for (let at = 0; at < NARINFOS_COUNT; at++) {
    const references = nars.slice(-(at % 8)).map(({ storePath }) => storePath)
    const nar = await cache.add(`warm-narinfo-${at}`, randomNar(1000), { references })
    nars.push(nar)
    paths.push(`/${nar.narInfoPath}`)
  }
  const upstream = await startNginx(join(dir, 'upstream'), cache.dir)
  const node = await startNarswarm(join(dir, 'narswarm'), {
    upstreams: [upstream.url],
    trust: { keys: [cache.publicKey] },
  })
  const same = join(dir, 'same')
  await mkdir(same)
  for (const path of paths) {
    const answer = await fetch(`${node.url}${path}`)
    if (answer.status !== 200) throw new Error(`${path}: status ${answer.status}`)
    await writeFile(join(same, path), await answer.bytes())
  }
  const nginx = await startNginx(join(dir, 'nginx'), same)
  const ours: WrkResult[] = []
  const theirs: WrkResult[] = []
  try {
    // In turn, since the machine's speed drifts; the first round warms up and is not counted.
    for (let round = 0; round <= ROUNDS; round++) {
      const here = await runWrk(dir, node.url, paths, SECONDS)
      const there = await runWrk(dir, nginx.url, paths, SECONDS)
      for (const { refused, broken } of [here, there]) {
        if (refused + broken > 0) throw new Error(`${refused} answers were no narinfo, ${broken} broke off`)
      }
      note(
        `  warm narinfo: narswarm ${here.perSecond.toFixed(0)} req/s, p99 ${here.p99Ms.toFixed(1)} ms; nginx ${there.perSecond.toFixed(0)}, p99 ${there.p99Ms.toFixed(1)} ms`,
      )
      if (round === 0) continue
      ours.push(here)
      theirs.push(there)
    }
  } finally {
    await Promise.all([node.stop(), nginx.stop(), upstream.stop()])
  }
  const enough = report({
    bench: 'warm narinfos, 200 in turn, 64 connections',
    unit: 'req/s',
    ours: median(ours.map(({ perSecond }) => perSecond)),
    peer: 'nginx, one worker, the same bytes as files',
    theirs: median(theirs.map(({ perSecond }) => perSecond)),
    bar: { atLeastRatio: 0.3 },
  })
  const inTime = report({
    bench: 'warm narinfos, p99',
    unit: 'ms',
    ours: median(ours.map(({ p99Ms }) => p99Ms)),
    peer: 'nginx',
    theirs: median(theirs.map(({ p99Ms }) => p99Ms)),
    bar: { below: 10 },
  })
  return enough && inTime
}
