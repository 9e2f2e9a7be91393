/** Programs of the bench in processes of their own: one JSON argument in, one JSON line out. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { endWithUs } from './end-with-us.ts'

/** Runs bench/child/<name> to its end. */
export async function run<T>(name: string, argument: unknown): Promise<T> {
  const child = start(name, argument)
  const [line, [code]] = await Promise.all([
    firstLine(child),
    once(child, 'exit') as Promise<[number | null]>,
  ])
  if (code !== 0) throw new Error(`bench child ${name} ended with ${String(code)}`)
  return JSON.parse(line) as T
}

/** Starts bench/child/<name>, which serves until it is stopped. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller says what its child prints
export async function serve<T>(
  name: string,
  argument: unknown,
): Promise<{ ready: T; pid: number; stop(): Promise<void> }> {
  const child = start(name, argument)
  const ready = JSON.parse(await firstLine(child)) as T
  return {
    ready,
    pid: child.pid ?? 0,
    async stop() {
      const exited = once(child, 'exit')
      child.kill('SIGTERM')
      await exited
    },
  }
}

/** Most memory that the process ever had resident, MB (10^6 bytes). */
export async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return (Number(/VmHWM:\s+([0-9]+) kB/.exec(status)?.[1]) * 1024) / 1e6
}

function start(name: string, argument: unknown): ChildProcess {
  const script = fileURLToPath(new URL(`../child/${name}.js`, import.meta.url))
  const child = spawn(process.execPath, [script, JSON.stringify(argument)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  child.once('exit', endWithUs(child.pid))
  return child
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no standard output')
  const lines = createInterface({ input: child.stdout })
  const exited = once(child, 'exit').then(([code]) => {
    throw new Error(`bench child ended with ${String(code)} before it said anything`)
  })
  exited.catch(() => {})
  const [line] = (await Promise.race([once(lines, 'line'), exited])) as [string]
  return line
}
