import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { find } from '../../../bench/kit/program.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import type { Host } from './lan.ts'

const PORT = 8080

/** nginx on a host of the LAN, over a folder, as a cache is often run. @returns its base URL */
export async function startNginx(stage: Stage, host: Host, root: string): Promise<string> {
  const dir = join(stage.dir, `nginx-${host.name}`)
  await mkdir(dir)
  const url = `http://${host.address}:${PORT}`
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  await writeFile(
    join(dir, 'nginx.conf'),
    `user root;
daemon off;
worker_processes 1;
pid nginx.pid;
events {}
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${name};`).join(' ')}
  server { listen ${new URL(url).host}; root ${root}; }
}
`,
  )
  const args = ['-p', dir, '-c', 'nginx.conf', '-e', 'stderr']
  const child = spawn(...host.place(find('nginx') ?? 'nginx', args), {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const exited = once(child, 'exit')
  stage.onEnd(async () => {
    child.kill()
    await exited
  })
  while (!(await answers(host, url))) await sleep(50, undefined, { signal: stage.signal })
  return url
}

async function answers(host: Host, url: string): Promise<boolean> {
  try {
    const { statusCode } = await host.get(`${url}/nix-cache-info`)
    return statusCode === 200
  } catch {
    return false
  }
}
