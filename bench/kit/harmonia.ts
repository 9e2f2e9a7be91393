/** harmonia over a store, where HARMONIA names its program: what others serve a live store with. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endWithUs } from './end-with-us.ts'
import { freePort } from './nginx.ts'

const START_DEADLINE_MS = 10_000

export interface Harmonia {
  readonly url: string
  stop(): Promise<void>
}

/** @param root as of `nix-store --store` */
export async function startHarmonia(program: string, dir: string, root: string): Promise<Harmonia> {
  await mkdir(dir, { recursive: true })
  const url = `http://127.0.0.1:${await freePort()}`
  const config = join(dir, 'harmonia.toml')
  await writeFile(
    config,
    `bind = "${url.slice(7)}"\nreal_nix_store = "${root}/nix/store"\nnix_db_path = "${root}/nix/var/nix/db/db.sqlite"\n`,
  )
  const child = spawn(program, [], {
    env: { CONFIG_FILE: config, RUST_LOG: 'error' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const exited = once(child, 'exit')
  child.once('exit', endWithUs(child.pid))
  for (const deadline = Date.now() + START_DEADLINE_MS; !(await answers(url)); await sleep(20)) {
    if (child.exitCode === null && Date.now() < deadline) continue
    child.kill('SIGKILL')
    throw new Error('harmonia did not start')
  }
  return {
    url,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/nix-cache-info`)).ok
  } catch {
    return false
  }
}
