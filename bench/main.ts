/**
 * `npm run bench [-- NAME …]`: the figures that narswarm promises, each against a named peer in the same run, as JSON
 * lines. Loopback only. Exit code 1 when a bar is missed.
 */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { benchCoded } from './cases/coded.ts'
import { benchDeadPeers } from './cases/dead-peers.ts'
import { benchFetch } from './cases/fetch.ts'
import { benchFirstTimeCompressed } from './cases/first-time-compressed.ts'
import { benchFirstTime } from './cases/first-time.ts'
import { benchLarge } from './cases/large.ts'
import { benchLiveStore } from './cases/live-store.ts'
import { benchMany } from './cases/many.ts'
import { benchMiss } from './cases/miss.ts'
import { benchPublish } from './cases/publish.ts'
import { benchUpgrade } from './cases/upgrade.ts'
import { benchWarmNar } from './cases/warm-nar.ts'
import { benchWarmNarInfo } from './cases/warm-narinfo.ts'
import type { BenchContext } from './kit/context.ts'
import { makePackage } from './kit/nar.ts'
import { makeProgramPackage } from './kit/programs.ts'
import { note } from './kit/report.ts'
import { setUp } from './kit/set-up.ts'

const CASES = {
  fetch: benchFetch,
  coded: benchCoded,
  publish: benchPublish,
  large: benchLarge,
  'warm-nar': benchWarmNar,
  'warm-narinfo': benchWarmNarInfo,
  'live-store': benchLiveStore,
  'dead-peers': benchDeadPeers,
  miss: benchMiss,
  many: benchMany,
  'first-time': benchFirstTime,
  'first-time-compressed': benchFirstTimeCompressed,
  upgrade: benchUpgrade,
} as const

const names = process.argv.slice(2)
const unknown = names.filter((name) => !(name in CASES))
if (unknown.length > 0) {
  note(`no bench named ${unknown.join(', ')}; there are ${Object.keys(CASES).join(', ')}`)
  process.exit(2)
}
const dir = await mkdtemp(join(tmpdir(), 'narswarm-bench-'))
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    rmSync(dir, { recursive: true, force: true })
    process.exit(130)
  })
}
let passed = true
try {
  for (const [name, bench] of Object.entries(CASES)) {
    if (names.length > 0 && !names.includes(name)) continue
    note(`bench ${name}`)
    const own = join(dir, name)
    await mkdir(own)
    const context: BenchContext = {
      dir: own,
      setUp: (label, bytes, contents = 'random') => {
        const make = contents === 'random' ? makePackage : makeProgramPackage
        return setUp(join(own, label), (packages) => make(packages, 'bench-1.0', bytes), randomBytes)
      },
    }
    passed = (await bench(context)) && passed
    await rm(own, { recursive: true, force: true })
  }
} finally {
  await rm(dir, { recursive: true, force: true })
}
process.exit(passed ? 0 : 1)
