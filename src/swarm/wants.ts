import type { Libp2p, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { CID } from 'multiformats/cid'
import { BITSWAP_PAST_WANTS_COUNT, BITSWAP_PEER_WANTS_COUNT } from '../limits.ts'
import type { CallOptions } from '../source.ts'
import type { WantEntry } from './bitswap-message.ts'
import { encodeWants } from './bitswap-message.ts'
import type { Answer } from './bitswap-wire.ts'
import { peerIdIn } from './peer-address.ts'
import type { PeerStream } from './peer-stream.ts'
import { createPeerStream } from './peer-stream.ts'
import type { FailureKind } from './worker-protocol.ts'

/** A block that did not come, and whose doing that is. */
export class WantError extends Error {
  override readonly name = 'WantError'
  readonly kind: FailureKind
  constructor(kind: FailureKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

/** The asking half of bitswap: each want goes to one peer, never to all that are connected. */
export interface Wants {
  /**
   * The block with this digest, hashed by Helia on arrival. Dials the peer when there is no connection.
   * No deadline of its own but that of the dial: the signal is the only end of a want that nobody answers.
   *
   * @param address ends in `/p2p/<peer id>`
   * @throws WantError
   */
  ask(address: string, cid: CID, maxBytes: number, options: CallOptions): Promise<Uint8Array>
  answered(answer: Answer): void
  disconnected(peer: PeerId): void
  close(): void
}

interface Asker {
  readonly maxBytes: number
  readonly resolve: (block: Uint8Array) => void
  readonly reject: (error: Error) => void
}

interface Want {
  readonly cid: CID
  readonly askers: Set<Asker>
}

interface PeerState {
  /** The latest that was told. */
  address: string
  readonly stream: PeerStream
  /** By digest. */
  readonly wants: Map<string, Want>
  /** By digest; what the peer has yet to be told. */
  readonly outbox: Map<string, WantEntry>
  /** By digest, oldest first. */
  readonly past: Set<string>
  /** Owned by `flush`: one writer a peer. */
  flushing: boolean
}

export function createWants(libp2p: Libp2p): Wants {
  const peers = new Map<string, PeerState>()

  const stateOf = (address: string): PeerState => {
    const name = peerIdIn(address)
    const known = peers.get(name)
    if (known !== undefined) {
      known.address = address
      return known
    }
    const state: PeerState = {
      address,
      stream: createPeerStream(libp2p, () => multiaddr(state.address)),
      wants: new Map(),
      outbox: new Map(),
      past: new Set(),
      flushing: false,
    }
    peers.set(name, state)
    return state
  }

  const forget = (state: PeerState, key: string): void => {
    state.wants.delete(key)
    state.past.add(key)
    if (state.past.size <= BITSWAP_PAST_WANTS_COUNT) return
    for (const oldest of state.past) {
      state.past.delete(oldest)
      break
    }
  }

  /** Remembered like answered ones: the peer may still send what it was asked for. */
  const failAll = (state: PeerState, error: WantError): void => {
    const wants = [...state.wants]
    state.outbox.clear()
    for (const [key, want] of wants) {
      forget(state, key)
      for (const asker of want.askers) asker.reject(error)
    }
  }

  /** Wants of one turn of the event loop, and those that gather while a message is on its way, go in one message. */
  const flush = async (state: PeerState): Promise<void> => {
    if (state.flushing) return
    state.flushing = true
    try {
      await new Promise(setImmediate)
      while (state.outbox.size > 0) {
        const entries = [...state.outbox.values()].slice(0, BITSWAP_PEER_WANTS_COUNT)
        for (const { cid } of entries) state.outbox.delete(digestKey(cid))
        await state.stream.send([encodeWants(entries)])
      }
    } catch (cause) {
      failAll(state, new WantError('fault', `the peer could not be asked: ${String(cause)}`, { cause }))
      const name = peerIdIn(state.address)
      if (libp2p.getConnections().every(({ remotePeer }) => remotePeer.toString() !== name))
        peers.delete(name)
    } finally {
      state.flushing = false
    }
  }

  return {
    async ask(address, cid, maxBytes, { signal }) {
      signal.throwIfAborted()
      const state = stateOf(address)
      const key = digestKey(cid)
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
      const asker: Asker = { maxBytes, resolve, reject }
      const want = state.wants.get(key) ?? { cid, askers: new Set() }
      want.askers.add(asker)
      if (!state.wants.has(key)) {
        state.wants.set(key, want)
        state.outbox.set(key, { cid, cancel: false })
        void flush(state)
      }
      const onAbort = (): void => {
        reject(signal.reason as Error)
        want.askers.delete(asker)
        if (want.askers.size > 0 || state.wants.get(key) !== want) return
        forget(state, key)
        // Still unsent: then there is nothing to take back.
        if (state.outbox.delete(key)) return
        state.outbox.set(key, { cid, cancel: true })
        void flush(state)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        return await promise
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },

    answered({ sender, cid, has, block }) {
      const state = peers.get(sender.toString())
      if (state === undefined) return
      const key = digestKey(cid)
      const want = state.wants.get(key)
      if (want === undefined) {
        // Nobody pushes blocks in bitswap. A block that is no answer to any question is a wrong answer to one.
        if (block !== undefined && !state.past.has(key)) {
          failAll(
            state,
            new WantError(
              'lie',
              `the peer sent ${block.byteLength} bytes that hash to ${cid.toString()}, asked of it was another block`,
            ),
          )
        }
        return
      }
      // "I have it", without the block, is no answer to a want for the block.
      if (has && block === undefined) return
      forget(state, key)
      for (const asker of want.askers) {
        if (block === undefined) asker.reject(new WantError('miss', 'the peer does not have the block'))
        else if (block.byteLength <= asker.maxBytes) asker.resolve(block)
        else
          asker.reject(
            new WantError(
              'lie',
              `expected at most ${asker.maxBytes} bytes, the peer sent ${block.byteLength}`,
            ),
          )
      }
    },

    disconnected(peer) {
      const state = peers.get(peer.toString())
      if (state === undefined) return
      peers.delete(peer.toString())
      state.stream.close()
      failAll(state, new WantError('fault', 'the connection to the peer was closed'))
    },

    close() {
      for (const state of peers.values()) {
        state.stream.close()
        failAll(state, new WantError('fault', 'the swarm node is stopping'))
      }
      peers.clear()
    },
  }
}

/** Bitswap speaks of multihashes: a peer may answer under another codec than the one asked. */
function digestKey(cid: CID): string {
  return Buffer.from(cid.multihash.bytes).toString('latin1')
}
