/**
 * `npm run bench [-- NAME …]`: the figures that narswarm promises, each against a named peer in the same run, as JSON
 * lines. Loopback only. Exit code 1 when a bar is missed.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { benchFetch } from './cases/fetch.ts'
import { benchLarge } from './cases/large.ts'
import { benchPublish } from './cases/publish.ts'
import { note } from './kit/report.ts'
import { setUp } from './kit/set-up.ts'

const CASES = { fetch: benchFetch, publish: benchPublish, large: benchLarge } as const

const names = process.argv.slice(2)
const unknown = names.filter((name) => !(name in CASES))
if (unknown.length > 0) {
  note(`no bench named ${unknown.join(', ')}; there are ${Object.keys(CASES).join(', ')}`)
  process.exit(2)
}
const dir = await mkdtemp(join(tmpdir(), 'narswarm-bench-'))
let passed = true
try {
  for (const [name, bench] of Object.entries(CASES)) {
    if (names.length > 0 && !names.includes(name)) continue
    note(`bench ${name}`)
    passed = (await bench((label, bytes) => setUp(join(dir, label), bytes, randomBytes))) && passed
  }
} finally {
  await rm(dir, { recursive: true, force: true })
}
process.exit(passed ? 0 : 1)
