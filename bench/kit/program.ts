/** Programs of others: where they are, and what they print. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { endWithUs } from './end-with-us.ts'
import { note } from './report.ts'

/** Debian keeps servers where no user's PATH looks. */
const FOLDERS = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']

/** @returns its path; undefined when this machine has none */
export function find(program: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, program)).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** @returns whether all are here; else says which bench is skipped for want of which */
export function haveAll(bench: string, ...programs: readonly string[]): boolean {
  const missing = programs.filter((program) => find(program) === undefined)
  if (missing.length > 0) note(`bench ${bench} is skipped: this machine has no ${missing.join(', no ')}`)
  return missing.length === 0
}

/** Runs it to its end. @returns what it printed, and how long it took from start to end */
export async function call(
  program: string,
  args: readonly string[],
  options: { env?: Record<string, string>; discard?: boolean } = {},
): Promise<{ stdout: string; ms: number }> {
  const begun = performance.now()
  const child = spawn(find(program) ?? program, args, {
    stdio: ['ignore', options.discard === true ? 'ignore' : 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  child.once('exit', endWithUs(child.pid))
  const exited = once(child, 'exit') as Promise<[number | null]>
  const [stdout, stderr, [code]] = await Promise.all([
    child.stdout === null ? '' : text(child.stdout),
    child.stderr === null ? '' : text(child.stderr),
    exited,
  ])
  if (code !== 0) throw new Error(`${program} ended with ${String(code)}: ${stderr.slice(-2000)}`)
  return { stdout, ms: performance.now() - begun }
}
