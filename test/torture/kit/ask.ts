/** One HTTP request, its answer compared with the truth byte by byte while it comes. */
import { Agent, request } from 'node:http'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Exchange } from './judge.ts'
import type { Subject } from './subject.ts'

export interface Ask {
  readonly method?: 'GET' | 'HEAD'
  readonly target: string
  readonly range?: { readonly first: number; readonly last?: number }
  readonly headers?: Readonly<Record<string, string>>
  /** The true bytes of the whole; without them the body is kept. */
  readonly truth?: Buffer
  /** Goes away after so many bytes. */
  readonly leaveAfter?: number
  /** Takes a breath of so many milliseconds after each piece. */
  readonly slowMs?: number
}

const KEPT_MAX_BYTES = 2 ** 20
/** Longer than any bound: whoever is still silent then is judged by it. */
const GIVE_UP_MS = 60_000
const SETTLE_MS = 300

/** Keeps its connections, as Nix does; one that the server had closed is no fault of the server's. */
export function createAsker(
  subject: Subject,
  signal: AbortSignal,
): { ask(ask: Ask): Promise<Exchange>; close(): void } {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })

  async function ask(one: Ask, again = true): Promise<Exchange> {
    const { method = 'GET', target, range } = one
    const exchange: Exchange = {
      method,
      target,
      ...(range === undefined ? {} : { range }),
      status: 0,
      headers: {},
      body: Buffer.alloc(0),
      received: 0,
      complete: false,
      aborted: false,
      headMs: 0,
      silenceMs: 0,
      undisturbed: false,
    }
    const url = subject.url()
    if (url === undefined) return exchange
    const begun = performance.now()
    let asked: ClientRequest | undefined
    try {
      const bytes = range === undefined ? {} : { Range: `bytes=${range.first}-${range.last ?? ''}` }
      asked = request(`${url}${target}`, { method, agent, signal, headers: { ...bytes, ...one.headers } })
      const answer = await headOf(asked)
      exchange.headMs = performance.now() - begun - subject.pausedSince(begun)
      exchange.status = answer.statusCode ?? 0
      exchange.headers = answer.headers as Exchange['headers']
      await read(answer, one, exchange, subject)
    } catch {
      exchange.headMs ||= performance.now() - begun - subject.pausedSince(begun)
    } finally {
      asked?.destroy()
    }
    if (signal.aborted) exchange.aborted = true
    // A socket is reset a moment before its process is known to have ended.
    if (!exchange.complete && !exchange.aborted) await sleep(SETTLE_MS)
    exchange.undisturbed = subject.undisturbedSince(begun)
    if (exchange.status === 0 && again && asked?.reusedSocket === true && !signal.aborted)
      return ask(one, false)
    return exchange
  }

  return { ask, close: () => agent.destroy() }
}

function headOf(asked: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    asked.setTimeout(GIVE_UP_MS, () => asked.destroy(new Error('silent')))
    asked.once('response', resolve)
    asked.on('error', reject)
    asked.end()
  })
}

async function read(
  answer: IncomingMessage,
  { truth, leaveAfter, slowMs, range }: Ask,
  exchange: Exchange,
  subject: Subject,
): Promise<void> {
  const kept: Buffer[] = []
  const from = exchange.status === 206 ? (range?.first ?? 0) : 0
  const comparable = truth !== undefined && (exchange.status === 200 || exchange.status === 206)
  let before = performance.now()
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      const silence = performance.now() - before - subject.pausedSince(before)
      exchange.silenceMs = Math.max(exchange.silenceMs, silence)
      if (comparable) compare(chunk, truth, from + exchange.received, exchange)
      else if (exchange.received < KEPT_MAX_BYTES) kept.push(chunk)
      exchange.received += chunk.length
      if (leaveAfter !== undefined && exchange.received >= leaveAfter) {
        exchange.aborted = true
        return
      }
      if (slowMs !== undefined) await sleep(slowMs)
      before = performance.now()
    }
    exchange.complete = answer.complete
  } catch {
    const silence = performance.now() - before - subject.pausedSince(before)
    exchange.silenceMs = Math.max(exchange.silenceMs, silence)
  } finally {
    exchange.body = Buffer.concat(kept)
  }
}

function compare(chunk: Buffer, truth: Buffer, at: number, exchange: Exchange): void {
  if (exchange.wrongAt !== undefined) return
  const expected = truth.subarray(at, at + chunk.length)
  if (expected.equals(chunk)) return
  const first = chunk.findIndex((byte, index) => byte !== expected[index])
  exchange.wrongAt = at + first
}
