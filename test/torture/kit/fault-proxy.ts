/** A web server before a target that does it wrong in every way we know, by a schedule that a seed decides. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Asked, Target } from './origin.ts'
import type { Random } from './random.ts'

/** How often an answer is spoilt: never, at times, nearly always; or nobody is there. */
export type Weather = 'calm' | 'breezy' | 'stormy' | 'gone'

export interface FaultProxy {
  readonly url: string
  /** Since when it has done nothing wrong; undefined while it may. Milliseconds of performance.now(). */
  calmSince(): number | undefined
  /** Connections are refused until `open`, whatever the weather. */
  shut(): Promise<void>
  open(): Promise<void>
  /** How often each deed was done. */
  readonly deeds: ReadonlyMap<string, number>
  close(): Promise<void>
}

/** `fair`: never anything wrong; `mild`: mostly well for long, as a cache that users choose is. */
export type Climate = 'fair' | 'mild' | 'changing'

const CALM_WEIGHT = { fair: 1, mild: 15, changing: 5 } as const
const SPELL_MAX_MS = { fair: 0, mild: 30_000, changing: 15_000 } as const

const SPOILT: Record<Weather, number> = { calm: 0, breezy: 0.25, stormy: 0.85, gone: 1 }
const HELD_MAX_MS = 25_000
const HTML = Buffer.from('<!doctype html><title>Log in</title><p>Welcome to the hotel\n')

type Deed = (answer: Answer, response: ServerResponse, asked: Asked) => Promise<void>

export async function startFaultProxy(
  target: Target,
  random: Random,
  signal: AbortSignal,
  climate: Climate = 'changing',
): Promise<FaultProxy> {
  const deeds = new Map<string, number>()
  let weather: Weather = 'calm'
  let calmSince: number | undefined = performance.now()
  let shut = false
  /** The first checkpoint seen: an old head, truly signed, that nobody must go back to. */
  let oldHead: Answer | undefined
  let lastBody: Answer | undefined

  const hold = (ms: number): Promise<void> => sleep(ms, undefined, { signal, ref: false }).catch(() => {})
  const write = async (response: ServerResponse, bytes: Uint8Array): Promise<void> => {
    if (response.destroyed || response.write(bytes)) return
    await Promise.race([once(response, 'drain'), once(response, 'close')]).catch(() => {})
  }
  const pass: Deed = async ({ status, headers, body }, response, { method }) => {
    const length = method === 'HEAD' ? {} : { 'Content-Length': body.length }
    response.writeHead(status, { ...headers, ...length }).end(body)
  }
  const status =
    (code: number, headers: Record<string, string> = {}): Deed =>
    async (_, response) => {
      response.writeHead(code, { ...headers, 'Content-Length': 4 }).end('no.\n')
    }
  /** The right head, and a part of the body; then `then`. */
  const part =
    (then: (response: ServerResponse, rest: Uint8Array) => Promise<void>): Deed =>
    async ({ status, headers, body }, response) => {
      const at = random.int(0, Math.max(0, body.length - 1))
      response.writeHead(status, { ...headers, 'Content-Length': body.length })
      response.flushHeaders()
      await write(response, body.subarray(0, at))
      await then(response, body.subarray(at))
    }

  const DEEDS: Record<string, Deed> = {
    cut: part(async (response) => void response.destroy()),
    stall: part(async (response) => {
      await hold(HELD_MAX_MS)
      response.destroy()
    }),
    trickle: part(async (response, rest) => {
      const [step, pauseMs] = random.pick([
        [64, 100],
        [4096, 50],
      ] as const)
      const until = performance.now() + HELD_MAX_MS
      for (let at = 0; at < rest.length && !response.destroyed; at += step) {
        if (performance.now() > until) response.destroy()
        await write(response, rest.subarray(at, at + step))
        await hold(pauseMs)
      }
      response.end()
    }),
    flip: async (answer, response, asked) => {
      const body = Buffer.from(answer.body)
      const at = random.int(0, Math.max(0, body.length - 1))
      if (body.length > 0) body[at] = (body[at] ?? 0) ^ (1 << random.int(0, 7))
      await pass({ ...answer, body }, response, asked)
    },
    'length too large': async ({ status, headers, body }, response) => {
      response.writeHead(status, { ...headers, 'Content-Length': body.length + random.int(1, 5000) })
      await write(response, body)
      response.destroy()
    },
    'length too small': async (answer, response, asked) => {
      const body = answer.body.subarray(0, random.int(0, Math.max(0, answer.body.length - 1)))
      await pass({ ...answer, body }, response, asked)
    },
    'chunked and cut': async ({ status, headers, body }, response) => {
      response.writeHead(status, headers)
      await write(response, body.subarray(0, body.length >> 1))
      response.destroy()
    },
    'extra bytes': async (answer, response, asked) => {
      await pass({ ...answer, body: Buffer.concat([answer.body, HTML]) }, response, asked)
    },
    'another body': async (answer, response, asked) => pass(lastBody ?? answer, response, asked),
    'wrong range': async (answer, response, asked) => {
      const range = answer.headers['Content-Range'] ?? 'bytes 7-8/9'
      await pass({ ...answer, status: 206, headers: { 'Content-Range': range } }, response, asked)
    },
    html: async (_, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Length': HTML.length }).end(HTML)
    },
    empty: async (_, response) => void response.writeHead(200, { 'Content-Length': 0 }).end(),
    '204': async (_, response) => void response.writeHead(204).end(),
    '404': status(404),
    '403': status(403),
    '429': status(429, { 'Retry-After': '3600' }),
    '500': status(500),
    '502': status(502),
    '503': status(503, { 'Retry-After': '1' }),
    'redirect loop': async (_, response, { path }) => {
      response.writeHead(302, { Location: path, 'Content-Length': 0 }).end()
    },
    'redirect away': async (_, response) => {
      response.writeHead(302, { Location: 'http://127.0.0.1:1/nar/x', 'Content-Length': 0 }).end()
    },
    reset: async (_, response) => void response.destroy(),
    garbage: async (_, response) => {
      response.socket?.write('HTTP/9.9 yes\r\n\0\0\0\r\n\r\n')
      response.socket?.destroy()
    },
    silence: async (_, response) => {
      await hold(HELD_MAX_MS)
      response.destroy()
    },
    'late head': async (answer, response, asked) => {
      await hold(random.int(300, 4000))
      await pass(answer, response, asked)
    },
    'old head': async (answer, response, asked) => {
      await pass(asked.path.endsWith('/checkpoint') ? (oldHead ?? answer) : answer, response, asked)
    },
  }
  const names = Object.keys(DEEDS)

  const serve = async (asked: Asked, response: ServerResponse): Promise<void> => {
    const answer = await target(asked)
    if (asked.path.endsWith('/checkpoint')) oldHead ??= answer
    const spoil = random.chance(SPOILT[weather])
    const name = !spoil ? 'pass' : weather === 'gone' ? 'reset' : random.pick(names)
    deeds.set(name, (deeds.get(name) ?? 0) + 1)
    await (DEEDS[name] ?? pass)(answer, response, asked)
    if (answer.status === 200) lastBody = answer
  }

  const server = createServer((request, response) => {
    const { method = 'GET', url = '/' } = request
    const headers = request.headers as Record<string, string | undefined>
    const { range } = headers
    const asked: Asked = { path: url, method, headers, ...(range === undefined ? {} : { range }) }
    response.on('error', () => {})
    serve(asked, response).catch(() => response.destroy())
  })
  // What the other side sends after we have cut is no fault of anyone.
  server.on('clientError', (_, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  const change = async (): Promise<void> => {
    while (!signal.aborted) {
      await hold(random.int(2_000, SPELL_MAX_MS[climate]))
      weather = random.weighted<Weather>([
        [CALM_WEIGHT[climate], 'calm'],
        [4, 'breezy'],
        [2, 'stormy'],
        [1, 'gone'],
      ])
      calmSince = weather === 'calm' ? (calmSince ?? performance.now()) : undefined
    }
  }
  if (climate !== 'fair') void change()

  return {
    url: `http://127.0.0.1:${port}`,
    calmSince: () => (shut ? undefined : calmSince),
    deeds,
    async shut() {
      shut = true
      server.close()
      server.closeAllConnections()
    },
    async open() {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      shut = false
      if (calmSince !== undefined) calmSince = performance.now()
    },
    async close() {
      server.closeAllConnections()
      server.close()
    },
  }
}
