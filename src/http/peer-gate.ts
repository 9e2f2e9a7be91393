/** What stands before the routes of the peer listener: budgets for each address, and one pace for all that goes out. */
import type { MiddlewareHandler } from 'hono'
import { hostKey } from '../config/ip-address.ts'
import { PEER_WAIT_MS } from '../limits.ts'
import type { Upload } from '../swarm/upload.ts'
import { notFound, refusal } from './answer.ts'
import type { TextAnswer } from './answer.ts'
import { answerNow } from './failures.ts'
import type { PeerBudgets } from './peer-budgets.ts'
import { nodeSide, requestSignal } from './respond.ts'
import type { HttpEnv } from './respond.ts'

/** Where whole leaves are in memory while they go out. Narinfos are not held up behind them. */
const WEIGHTY = /^\/(?:nar|ipfs|feed)\//
const FOR_NIX = /^\/(?!ipfs\/|feed\/|relay\/)/

/** Whether a Nix may ask for it. Who asks on the other routes knows what a status of trouble means; Kubo does too. */
export function isForNix(path: string): boolean {
  return FOR_NIX.test(path)
}

export function peerGate({
  budgets,
  upload,
}: {
  budgets: PeerBudgets
  upload: Upload
}): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const { incoming, outgoing } = nodeSide(c)
    const who = hostKey(incoming?.socket.remoteAddress ?? '')
    const { path, method } = c.req
    const signal = requestSignal(c)
    const weighty = method === 'GET' && WEIGHTY.test(path)
    const lateMs = upload.backlogMs() - PEER_WAIT_MS
    if (weighty && lateMs > 0) return answerNow(c, refused(path, lateMs))
    const body = {
      isPending: () => (outgoing?.writableLength ?? 0) > 0,
      cut: () => void outgoing?.destroy(),
    }
    const visit = await budgets.enter(who, weighty ? body : undefined, { signal })
    if (visit === undefined) return answerNow(c, refused(path, 0))
    outgoing?.once('close', () => visit.leave())
    c.set('pace', (bytes) => {
      const turn = upload.take(bytes, who, { signal })
      visit.sending(bytes, turn)
      return turn
    })
    try {
      return await next()
    } finally {
      if (outgoing === undefined) visit.leave()
    }
  }
}

/**
 * A neighbour's Nix may use this listener as a cache, and then a 429 makes it wait for minutes and a 503 may end its run
 * [nix-protocol 0.1, 0.2], while a 404 sends it to its next cache. On the other routes 429 says what it is.
 */
function refused(path: string, lateMs: number): TextAnswer {
  const seconds = Math.max(1, Math.ceil(lateMs / 1000))
  return isForNix(path) ? notFound() : refusal(429, 'too many requests', { 'Retry-After': String(seconds) })
}
