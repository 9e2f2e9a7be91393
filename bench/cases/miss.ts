/** Misses while every upstream and every peer is dead, once that is known. */
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import type { BenchContext } from '../kit/context.ts'
import { startDeadHosts } from '../kit/dead.ts'
import { startNarswarm } from '../kit/narswarm.ts'
import { haveAll } from '../kit/program.ts'
import { note, report } from '../kit/report.ts'
import { runWrk } from '../kit/wrk.ts'

const SECONDS = 15
/** Look-ups, one after the other, until sources that fail are known. */
const WARM_UP_COUNT = 8
const KNOWN_MS = 100

/** Hash parts that nobody asked for before; nix32 has no e, o, t and u. */
const RANDOM_PATH = `math.randomseed(os.time())
local digits = "0123456789abcdfghijklmnpqrsvwxyz"
function request()
  local part = {}
  for i = 1, 32 do
    local at = math.random(32)
    part[i] = digits:sub(at, at)
  end
  return wrk.format("GET", "/" .. table.concat(part) .. ".narinfo")
end`

export async function benchMiss({ dir }: BenchContext): Promise<boolean> {
  if (!haveAll('miss', 'wrk')) return true
  const dead = await startDeadHosts()
  const urls = dead.ports.map((port) => `http://127.0.0.1:${port}`)
  const node = await startNarswarm(join(dir, 'narswarm'), { upstreams: urls, peers: { urls } })
  try {
    for (let count = 0, ms = Infinity; count < WARM_UP_COUNT && ms > KNOWN_MS; count++) {
      const begun = performance.now()
      const { status } = await fetch(`${node.url}/${encodeNix32(randomBytes(20))}.narinfo`)
      ms = performance.now() - begun
      note(`  miss ${count}: ${status} after ${ms.toFixed(0)} ms`)
    }
    await sleep(500)
    const { p99Ms, maxMs, perSecond, requests, refused, broken } = await runWrk(
      dir,
      node.url,
      { lua: RANDOM_PATH },
      SECONDS,
    )
    note(
      `  misses: ${perSecond.toFixed(0)} req/s, p99 ${p99Ms.toFixed(1)} ms, longest ${maxMs.toFixed(0)} ms`,
    )
    if (refused !== requests || broken > 0) {
      throw new Error(`${requests} requests, ${refused} answers of 4xx or 5xx, ${broken} broke off`)
    }
    return report({
      bench: 'misses with every source dead, 64 connections, p99',
      unit: 'ms',
      ours: p99Ms,
      bar: { below: 10 },
    })
  } finally {
    await Promise.all([node.stop(), dead.stop()])
  }
}
