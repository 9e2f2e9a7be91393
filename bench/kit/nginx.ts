/** nginx over a folder, as a fair peer: one worker, sendfile, loopback, nothing logged. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endWithUs } from './end-with-us.ts'
import { find } from './program.ts'

export interface Nginx {
  readonly url: string
  stop(): Promise<void>
}

const START_DEADLINE_MS = 10_000

/** @param dir for its own files @param root what it serves */
export async function startNginx(dir: string, root: string): Promise<Nginx> {
  await mkdir(dir, { recursive: true })
  const port = await freePort()
  await writeFile(join(dir, 'nginx.conf'), configuration(root, port))
  const args = ['-p', dir, '-c', 'nginx.conf', '-e', 'stderr']
  const child = spawn(find('nginx') ?? 'nginx', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const exited = once(child, 'exit')
  child.once('exit', endWithUs(child.pid))
  for (const deadline = Date.now() + START_DEADLINE_MS; !(await answers(port)); await sleep(20)) {
    if (child.exitCode === null && Date.now() < deadline) continue
    child.kill('SIGKILL')
    throw new Error('nginx did not start')
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

/** The folder that holds `root` may be open to nobody else, so the worker keeps our user. */
function configuration(root: string, port: number): string {
  return `${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  client_body_temp_path tmp-body;
  proxy_temp_path tmp-proxy;
  fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi;
  scgi_temp_path tmp-scgi;
  server {
    listen 127.0.0.1:${port};
    root ${root};
  }
}
`
}

/** nginx takes no port 0. Free a moment ago, and nobody is told of it before nginx has it. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
