import { spawn } from 'node:child_process'
import type { ChildProcess, SendHandle } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import type { ClientRequestArgs, IncomingMessage, RequestOptions, Server } from 'node:http'
import { Server as NetServer, Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Stage } from '../../e2e/kit/stage.ts'
import type { Namespace } from './namespace.ts'

export interface SocketOrder {
  readonly id: number
  readonly kind: 'listen' | 'connect'
  readonly host: string
  readonly port: number
}

export interface SocketAnswer {
  readonly id: number
  readonly error?: string
}

/** What this process does as if it were on the host: a server there is a few lines in the test itself. */
export interface Sockets {
  /** @param host an address of the host @returns its base URL, without a slash at the end */
  listen(server: Server, host: string, port?: number): Promise<string>
  /** For `createConnection` of an HTTP request. */
  readonly createConnection: NonNullable<RequestOptions['createConnection']>
  /** From the host. The answer's body is the caller's to read. */
  get(
    url: string | URL,
    options?: { method?: string; headers?: Record<string, string> },
  ): Promise<IncomingMessage>
}

const CHILD = fileURLToPath(new URL('socket-child.ts', import.meta.url))

export function openSockets(stage: Stage, namespace: Namespace): Sockets {
  let child: ChildProcess | undefined
  let count = 0
  const waiting = new Map<number, (answer: SocketAnswer, handle: SendHandle | undefined) => void>()

  const start = (): ChildProcess => {
    const started = spawn(...namespace.place(process.execPath, [CHILD]), {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    started.on('message', (answer, handle) => {
      const { id } = answer as SocketAnswer
      waiting.get(id)?.(answer as SocketAnswer, handle)
      waiting.delete(id)
    })
    stage.onEnd(async () => {
      started.kill('SIGKILL')
    })
    return started
  }
  const order = (kind: SocketOrder['kind'], host: string, port: number): Promise<SendHandle | undefined> => {
    child ??= start()
    const id = ++count
    child.send({ id, kind, host, port } satisfies SocketOrder)
    return new Promise((resolve, reject) => {
      waiting.set(id, ({ error }, handle) => {
        if (error === undefined) resolve(handle)
        else reject(new Error(`${kind} ${host} port ${port}: ${error}`))
      })
    })
  }
  const createConnection = (
    { host, port }: ClientRequestArgs,
    onCreate: (error: Error | null, stream: Duplex) => void,
  ): undefined => {
    order('connect', host ?? '127.0.0.1', Number(port ?? 80)).then(
      (socket) => onCreate(null, socket as Socket),
      (error: Error) => onCreate(error, new Socket()),
    )
    return undefined
  }
  return {
    async listen(server, host, port = 0) {
      const handle = await order('listen', host, port)
      if (!(handle instanceof NetServer)) throw new Error('no listening socket came')
      const { port: got } = handle.address() as AddressInfo
      server.listen(handle)
      await once(server, 'listening')
      stage.onEnd(async () => {
        server.closeAllConnections()
        server.close()
      })
      return `http://${host.includes(':') ? `[${host}]` : host}:${got}`
    },
    createConnection,
    async get(url, { method = 'GET', headers = {} } = {}) {
      const asked = request(url, { method, headers, createConnection, signal: stage.signal })
      asked.end()
      const [answer] = (await once(asked, 'response')) as [IncomingMessage]
      return answer
    },
  }
}
