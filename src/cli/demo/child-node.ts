/** Another narswarm process, driven as a user drives one: a configuration file, `serve`, the admin socket. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'smol-toml'
import { DEMO_START_DEADLINE_MS } from '../../limits.ts'
import type { Operations } from '../../operations/operations.ts'
import type { StatusDocument } from '../../operations/status.ts'
import type { CallOptions } from '../../source.ts'
import { createAdminClient } from '../admin-client.ts'

export interface ChildNode {
  readonly pid: number
  readonly operations: Operations
  status(): Promise<StatusDocument>
  /** SIGTERM, and what it says at its end when that is not 0. */
  stop(): Promise<void>
}

/** @param command how this very program is started, without its verb */
export async function startChild(
  dir: string,
  settings: Record<string, unknown>,
  command: readonly string[],
  options: CallOptions,
): Promise<ChildNode> {
  const stateDir = join(dir, 'state')
  await mkdir(dir, { recursive: true })
  await writeFile(join(dir, 'config.toml'), stringify({ ...settings, state_dir: stateDir }))
  const [program = process.execPath, ...args] = command
  const child = spawn(program, [...args, 'serve', '--config', join(dir, 'config.toml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let told = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    told = (told + text).slice(-4000)
  })
  const exited = once(child, 'exit')
  const operations = createAdminClient(join(stateDir, 'admin.sock'))

  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    const [code] = (await exited) as [number | null]
    if (code !== 0) throw new Error(`narswarm ended with ${String(code ?? child.signalCode)}: ${told}`)
  }

  const deadline = Date.now() + DEMO_START_DEADLINE_MS
  for (;;) {
    try {
      await operations.status(options)
      return { pid: child.pid ?? 0, operations, status: () => operations.status(options), stop }
    } catch (error) {
      if (child.exitCode !== null || Date.now() > deadline || options.signal.aborted) {
        child.kill('SIGKILL')
        throw new Error(`narswarm did not start: ${told || String(error)}`, { cause: error })
      }
      await sleep(50)
    }
  }
}
