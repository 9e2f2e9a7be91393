/** Every way in which a host is dead: refuses, takes connections and says nothing, does not even take them. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { serve } from './child.ts'
import { freePort } from './nginx.ts'

export interface DeadHosts {
  readonly ports: readonly number[]
  stop(): Promise<void>
}

/** More than the queue of the stopped process holds. */
const QUEUE_FILLERS_COUNT = 8

export async function startDeadHosts(): Promise<DeadHosts> {
  const held = new Set<Socket>()
  const silent = createServer((socket) => {
    held.add(socket)
    socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const hanging = await serve<{ port: number }>('hanging-server', {})
  process.kill(hanging.pid, 'SIGSTOP')
  for (let count = 0; count < QUEUE_FILLERS_COUNT; count++) {
    held.add(connect(hanging.ready.port, '127.0.0.1').on('error', () => {}))
  }
  return {
    ports: [await freePort(), (silent.address() as AddressInfo).port, hanging.ready.port],
    async stop() {
      for (const socket of held) socket.destroy()
      silent.close()
      process.kill(hanging.pid, 'SIGCONT')
      await hanging.stop()
    },
  }
}
