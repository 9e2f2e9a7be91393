/**
 * What one address may ask of the peer listener at a time, so that no neighbour shuts out another. Budgets are far above what
 * a neighbour with a fast line needs, and who is over one waits before it is refused.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import {
  PEER_ADDRESSES_MAX_COUNT,
  PEER_ALL_BODIES_COUNT,
  PEER_BODIES_COUNT,
  PEER_REQUESTS_BURST_COUNT,
  PEER_REQUESTS_COUNT,
  PEER_REQUESTS_PER_S,
  PEER_STALLED_MS,
  PEER_WAIT_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { CallOptions } from '../source.ts'
import { createRate } from '../swarm/rate.ts'
import type { Rate } from '../swarm/rate.ts'
import { createTurns } from '../swarm/turns.ts'

export interface PeerBudgets {
  /**
   * Resolves when the request may be handled; undefined when it is to be refused.
   *
   * @param body of a NAR or block, which is in memory while it goes out; absent for what is small
   * @throws the signal's reason
   */
  enter(who: string, body: PeerBody | undefined, options: CallOptions): Promise<PeerVisit | undefined>
  /** By address, for `status`; those that were heard of last come first. */
  report(): PeerUse[]
}

/** An answer on its way. */
export interface PeerBody {
  /** Whether its reader has yet to take something that was given to the socket. */
  isPending(): boolean
  /** Its reader takes nothing, and somebody else waits. */
  cut(): void
}

interface PeerVisit {
  /** @param turn when the bytes go to the socket, if they have to wait for that */
  sending(bytes: number, turn: Promise<void> | undefined): void
  leave(): void
}

interface PeerUse {
  readonly address: string
  readonly requests: number
  readonly refused: number
  readonly bytes: number
}

interface Peer {
  readonly rate: Rate
  underWay: number
  bodies: number
  requests: number
  refused: number
  bytes: number
}

type Wait = (ms: number, options: CallOptions) => Promise<unknown>

export function createPeerBudgets(deps: {
  log: Log
  /** Milliseconds, monotonic. */
  clock: () => number
  wait?: Wait
}): PeerBudgets {
  const { log, clock, wait = (ms, { signal }) => sleep(ms, undefined, { signal, ref: false }) } = deps
  const peers = new LRUCache<string, Peer>({ max: PEER_ADDRESSES_MAX_COUNT })
  const waiting = createTurns<() => void>()
  /** Those that go out, with when bytes of theirs last went to the socket. */
  const held = new Map<PeerBody, number>()
  let bodies = 0

  const peerOf = (who: string): Peer => {
    let peer = peers.get(who)
    if (peer === undefined) {
      const perSecond = PEER_REQUESTS_PER_S
      const rate = createRate({ perSecond, burst: PEER_REQUESTS_BURST_COUNT }, clock)
      peer = { rate, underWay: 0, bodies: 0, requests: 0, refused: 0, bytes: 0 }
      peers.set(who, peer)
    }
    return peer
  }

  const mayHaveBody = (who: string): boolean => (peers.peek(who)?.bodies ?? 0) < PEER_BODIES_COUNT

  const nextInTurn = (): (() => void) | undefined =>
    bodies < PEER_ALL_BODIES_COUNT ? waiting.shift(mayHaveBody) : undefined

  const admit = (): void => {
    for (let go = nextInTurn(); go !== undefined; go = nextInTurn()) go()
  }

  const cutStalled = (): void => {
    const before = clock() - PEER_STALLED_MS
    for (const [body, at] of held) if (at < before && body.isPending()) body.cut()
  }

  /** @returns false when there was no room within PEER_WAIT_MS */
  const takeBody = async (who: string, peer: Peer, signal: AbortSignal): Promise<boolean> => {
    const over = new AbortController()
    let taken = false
    const go = (): void => {
      taken = true
      bodies++
      peer.bodies++
      over.abort()
    }
    waiting.push(who, go)
    admit()
    if (taken) return true
    cutStalled()
    try {
      await wait(PEER_WAIT_MS, { signal: AbortSignal.any([over.signal, signal]) })
    } catch {
      // Its turn has come, or the client has gone.
    }
    waiting.remove(who, go)
    if (signal.aborted && taken) leaveBody(peer)
    signal.throwIfAborted()
    return taken
  }

  const leaveBody = (peer: Peer): void => {
    bodies--
    peer.bodies--
    admit()
  }

  return {
    async enter(who, body, { signal }) {
      const peer = peerOf(who)
      peer.requests++
      const refuse = (reason: string): undefined => {
        // Once for each: who floods us must not flood the log.
        if (peer.refused++ === 0) log.info({ peer: who }, `a peer is over its budget: ${reason}`)
      }
      if (peer.underWay >= PEER_REQUESTS_COUNT) return refuse(`${PEER_REQUESTS_COUNT} requests at once`)
      const ms = peer.rate.take(1, PEER_WAIT_MS)
      if (ms === undefined) return refuse(`${PEER_REQUESTS_PER_S} requests a second`)
      peer.underWay++
      let entered = false
      try {
        if (ms > 0) await wait(ms, { signal })
        entered = body === undefined || (await takeBody(who, peer, signal))
      } finally {
        if (!entered) peer.underWay--
      }
      if (!entered) return refuse(`no room for another answer within ${PEER_WAIT_MS} ms`)
      if (body !== undefined) held.set(body, clock())
      const mark = (): void => {
        if (body !== undefined && entered) held.set(body, clock())
      }
      return {
        sending(bytes, turn) {
          peer.bytes += bytes
          if (turn === undefined) mark()
          else turn.then(mark, () => {})
        },
        leave() {
          if (!entered) return
          entered = false
          peer.underWay--
          if (body === undefined) return
          held.delete(body)
          leaveBody(peer)
        },
      }
    },
    report: () =>
      [...peers.entries()].map(([address, { requests, refused, bytes }]) => ({
        address,
        requests,
        refused,
        bytes,
      })),
  }
}
