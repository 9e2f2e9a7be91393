/**
 * `npm run torture -- [--minutes N] [--seed N] [--kills N]`: narswarms on loopback that are killed, paused, starved and
 * lied to, and every answer they give held against the truth. Exit code 1 when one was wrong or anything that had been
 * acknowledged was lost.
 */
import type { ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './kit/run.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string' }, seed: { type: 'string' }, kills: { type: 'string' } },
})
const numberOf = (name: keyof typeof values, missing: number): number => {
  const number = Number(values[name] ?? missing)
  if (number > 0) return number
  process.stderr.write(`--${name}: expected a number above 0, got ${JSON.stringify(values[name])}\n`)
  return process.exit(2)
}
const minutes = numberOf('minutes', 10)
const seed = numberOf('seed', randomInt(1, 2 ** 32))
const kills = numberOf('kills', Infinity)
const again = `npm run torture -- --minutes ${minutes} --seed ${seed}${Number.isFinite(kills) ? ` --kills ${kills}` : ''}`

const dir = await mkdtemp(join(tmpdir(), 'narswarm-torture-'))
const children = new Set<ChildProcess>()
const works: (() => void)[] = []
const cleanUp = (): void => {
  for (const child of children) child.kill('SIGKILL')
  for (const work of works.splice(0)) work()
}
const stop = new AbortController()
process.on('exit', cleanUp)
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    if (stop.signal.aborted) process.exit(130)
    stop.abort(new Error(name))
  })
}
process.stdout.write(`again: ${again}\n`)
let passed = false
let evidence = false
try {
  passed = await run(
    {
      dir,
      again,
      stdout: process.stdout,
      hold(child) {
        children.add(child)
        child.once('exit', () => children.delete(child))
      },
      atExit: (work) => works.push(work),
      stop: stop.signal,
    },
    { minutes, seed, kills },
  )
  evidence = !passed
} finally {
  cleanUp()
  await rm(evidence ? join(dir, 'run') : dir, { recursive: true, force: true })
}
process.exit(passed ? 0 : 1)
