/** A narswarm process that is started, killed, paused and watched. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'smol-toml'
import { createAdminClient } from '../../../src/cli/admin-client.ts'
import { SPOOL_BACK_OFF_MS } from '../../../src/limits.ts'
import type { Operations } from '../../../src/operations/operations.ts'
import { FAILPOINT_MARK } from './failpoint-names.ts'
import type { Windows } from './failpoint-names.ts'

/** How a life ended. */
export interface End {
  /** The failpoint that ended it, if one did. */
  readonly failpoint?: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Subject {
  readonly name: string
  readonly stateDir: string
  readonly operations: Operations
  readonly pid: number | undefined
  /** Where its cache is, once it was up; the same after each restart. */
  url(): string | undefined
  /** Whether it was up, and nothing was done to it, all the time since then (performance.now()). */
  undisturbedSince(at: number): boolean
  /** Its disk fails from now on, or no longer: a miss is all that can be asked of it until it tries the disk again. */
  trouble(on: boolean): void
  untroubledSince(at: number): boolean
  /** Milliseconds since then in which it was stopped. */
  pausedSince(at: number): number
  /** Resolves when it serves, with the milliseconds that took; or when it has ended before that. */
  start(failpoint?: string): Promise<number | undefined>
  /** Resolves at its end. */
  ended(): Promise<End>
  running(): boolean
  /** It does what was asked for soon: kill, stop, pause, continue. */
  signal(name: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT'): void
  send(windows: Windows): void
  /** The last lines of its log. */
  log(): string
  /** Resident memory in MB, open descriptors. */
  sample(): Promise<{ rssMb: number; fds: number } | undefined>
}

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))
const PRELOAD = new URL('failpoints.ts', import.meta.url).href
const LOG_MAX_CHARS = 60_000
const START_DEADLINE_MS = 30_000
/** After an end, connections may still be refused or reset for reasons of the kernel's own. */
const SETTLE_MS = 250

/** @param hold called with each process, so that none outlives the run */
export async function createSubject(
  name: string,
  dir: string,
  config: (port: number) => Record<string, unknown>,
  hold: (child: ChildProcess) => void,
): Promise<Subject> {
  const stateDir = join(dir, 'state')
  const configFile = join(dir, 'config.toml')
  const nixConfDir = join(dir, 'nix')
  await mkdir(nixConfDir, { recursive: true })
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(dir, 'home'),
    NIX_CONF_DIR: nixConfDir,
    NIX_USER_CONF_FILES: '',
    // A quarter off each start.
    NODE_COMPILE_CACHE: join(dir, '..', 'compile-cache'),
  }
  let told = ''
  let child: ChildProcess | undefined
  let end: Promise<End> | undefined
  let url: string | undefined
  let upSince: number | undefined
  let pausedAt: number | undefined
  /** Until when its disk failed. */
  let troubledTo = 0
  const pauses: { from: number; to: number }[] = []
  const operations = createAdminClient(join(stateDir, 'admin.sock'))

  const running = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null

  return {
    name,
    stateDir,
    operations,
    get pid() {
      return child?.pid
    },
    url: () => url,
    undisturbedSince: (at) => upSince !== undefined && upSince <= at,
    trouble: (on) => void (troubledTo = on ? Infinity : performance.now() + SPOOL_BACK_OFF_MS + SETTLE_MS),
    untroubledSince: (at) => troubledTo <= at,
    pausedSince(at) {
      const now = performance.now()
      const all = pausedAt === undefined ? pauses : [...pauses, { from: pausedAt, to: now }]
      return all.reduce((sum, { from, to }) => sum + Math.max(0, to - Math.max(from, at)), 0)
    },
    async start(failpoint) {
      troubledTo = 0
      const port = url === undefined ? 0 : Number(new URL(url).port)
      await writeFile(configFile, stringify({ ...config(port), state_dir: stateDir }))
      const begun = performance.now()
      const born = spawn(process.execPath, ['--import', PRELOAD, MAIN, 'serve', '--config', configFile], {
        env: failpoint === undefined ? env : { ...env, TORTURE_FAILPOINT: failpoint },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      })
      child = born
      hold(born)
      let last = ''
      born.stderr?.setEncoding('utf8').on('data', (text: string) => {
        last = (last + text).slice(-400)
        told = (told + text).slice(-LOG_MAX_CHARS)
      })
      let printed = ''
      const up = new Promise<void>((resolve) => {
        born.stdout?.setEncoding('utf8').on('data', (text: string) => {
          printed += text
          const found = /serves (http:\S+)/.exec(printed)?.[1]
          if (found === undefined || upSince !== undefined) return
          url = found
          upSince = performance.now()
          resolve()
        })
      })
      born.on('error', () => {})
      born.once('exit', () => (upSince = undefined))
      end = once(born, 'close').then(([code, signal]) => {
        upSince = undefined
        const mark = new RegExp(`${FAILPOINT_MARK} (\\S+)`).exec(last)?.[1]
        told += `--- ended: ${String(signal ?? code)}${mark === undefined ? '' : ` by ${mark}`}\n`
        return {
          code: code as number | null,
          signal: signal as NodeJS.Signals | null,
          ...(mark === undefined ? {} : { failpoint: mark }),
        }
      })
      const timer = new AbortController()
      const late = sleep(START_DEADLINE_MS, 'late' as const, { signal: timer.signal, ref: false }).catch(
        () => {},
      )
      const first = await Promise.race([up.then(() => 'up' as const), end.then(() => 'ended' as const), late])
      timer.abort()
      if (first === 'late') throw new Error(`${name} did not serve within ${START_DEADLINE_MS} ms:\n${told}`)
      return first === 'up' ? performance.now() - begun : undefined
    },
    async ended() {
      if (end === undefined) throw new Error(`${name} was never started`)
      return end
    },
    running,
    signal(name) {
      if (name === 'SIGKILL' || name === 'SIGTERM') upSince = undefined
      if (name === 'SIGSTOP') pausedAt ??= performance.now()
      if (name === 'SIGCONT' && pausedAt !== undefined) {
        pauses.push({ from: pausedAt, to: performance.now() + SETTLE_MS })
        if (pauses.length > 100) pauses.shift()
        pausedAt = undefined
      }
      child?.kill(name)
    },
    send(windows) {
      if (child?.connected === true) child.send(windows, () => {})
    },
    log: () => told,
    async sample() {
      const pid = child?.pid
      if (pid === undefined || !running()) return undefined
      try {
        const status = await readFile(`/proc/${pid}/status`, 'utf8')
        const fds = (await readdir(`/proc/${pid}/fd`)).length
        return { rssMb: Number(/VmRSS:\s*(\d+)/.exec(status)?.[1] ?? 0) / 1024, fds }
      } catch {
        return undefined
      }
    },
  }
}
