import { setTimeout as sleep } from 'node:timers/promises'
import type { Libp2p, PeerId } from '@libp2p/interface'
import type { CID } from 'multiformats/cid'
import { decodeCid } from '../dag/cid.ts'
import {
  BITSWAP_MESSAGE_DEADLINE_MS,
  BITSWAP_PEER_REST_MS,
  BITSWAP_PEER_WANTS_BURST_COUNT,
  BITSWAP_PEER_WANTS_COUNT,
  BITSWAP_PEER_WANTS_PER_S,
  BITSWAP_SENDING_COUNT,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { createSlots } from '../upstream/slots.ts'
import type { Presence } from './bitswap-message.ts'
import { encodeBlockHead, encodePresences } from './bitswap-message.ts'
import type { Wantlist } from './bitswap-wire.ts'
import type { SharedBlocks } from './blockstore.ts'
import type { PeerStream } from './peer-stream.ts'
import { createPeerStream } from './peer-stream.ts'
import { createRate } from './rate.ts'
import type { Rate } from './rate.ts'
import type { Upload } from './upload.ts'

/** The answering half of bitswap. One block of a peer's wants is in memory at a time, and BITSWAP_SENDING_COUNT over all peers. */
export interface Ledger {
  receive(peer: PeerId, wantlist: Wantlist): void
  disconnected(peer: PeerId): void
  close(): void
}

interface PeerWant {
  /** As the peer wrote it. */
  readonly cidBytes: Uint8Array
  /** Absent when it is none that we could have a block for. */
  readonly cid: CID | undefined
  readonly presenceOnly: boolean
  readonly sendDontHave: boolean
}

interface PeerState {
  readonly stream: PeerStream
  /** By the bytes of the CID, in the order in which they came. */
  readonly wants: Map<string, PeerWant>
  /** Owned by `pump`: one writer a peer. */
  pumping: boolean
  readonly rate: Rate
  /** Clock time before which nothing is answered. */
  restsUntil: number
}

export function createLedger(deps: {
  libp2p: Libp2p
  blocks: SharedBlocks
  upload: Upload
  /** Milliseconds, monotonic. */
  clock: () => number
  log: Log
}): Ledger {
  const { libp2p, blocks, upload, clock, log } = deps
  const peers = new Map<string, PeerState>()
  const slots = createSlots(BITSWAP_SENDING_COUNT)
  const closing = new AbortController()

  /** Answers presences up to the first want for a block that we have, and returns that want. */
  const takeNext = (state: PeerState, presences: Presence[]): (PeerWant & { cid: CID }) | undefined => {
    for (const [key, want] of state.wants) {
      state.wants.delete(key)
      const { cid } = want
      const have = cid !== undefined && blocks.has(cid)
      if (have && !want.presenceOnly) return { ...want, cid }
      if (have || want.sendDontHave) presences.push({ cid: want.cidBytes, have })
    }
    return undefined
  }

  const pump = async (name: string, state: PeerState): Promise<void> => {
    while (state.wants.size > 0) {
      const rest = state.restsUntil - clock()
      if (rest > 0) await sleep(rest, undefined, { ref: false })
      const presences: Presence[] = []
      const want = takeNext(state, presences)
      if (presences.length > 0) await state.stream.send([encodePresences(presences)])
      if (want === undefined) continue
      await slots.take({ signal: closing.signal })
      try {
        const signal = AbortSignal.timeout(BITSWAP_MESSAGE_DEADLINE_MS)
        const block = await blocks.read(want.cid, { signal })
        if (block !== undefined) {
          await upload.take(block.byteLength, name, { signal })
          await state.stream.send([encodeBlockHead(want.cid, block.byteLength), block])
        } else if (want.sendDontHave) {
          await state.stream.send([encodePresences([{ cid: want.cidBytes, have: false }])])
        }
      } finally {
        slots.free()
      }
    }
  }

  return {
    receive(peer, wantlist) {
      const name = peer.toString()
      let state = peers.get(name)
      if (state === undefined) {
        state = {
          stream: createPeerStream(libp2p, () => peer),
          wants: new Map(),
          pumping: false,
          rate: createRate(
            { perSecond: BITSWAP_PEER_WANTS_PER_S, burst: BITSWAP_PEER_WANTS_BURST_COUNT },
            clock,
          ),
          restsUntil: -Infinity,
        }
        peers.set(name, state)
      }
      // What it asks faster than that waits, and beyond BITSWAP_PEER_WANTS_COUNT is not taken.
      const ms = state.rate.take(wantlist.entries.length, BITSWAP_PEER_REST_MS) ?? BITSWAP_PEER_REST_MS
      state.restsUntil = clock() + ms
      if (wantlist.full === true) state.wants.clear()
      for (const { cid: cidBytes, cancel, wantType, sendDontHave } of wantlist.entries) {
        const key = Buffer.from(cidBytes).toString('latin1')
        if (cancel === true) {
          state.wants.delete(key)
        } else if (state.wants.size < BITSWAP_PEER_WANTS_COUNT || state.wants.has(key)) {
          state.wants.set(key, {
            cidBytes,
            cid: servable(cidBytes),
            // A want for the block is never turned back into one for its presence.
            presenceOnly: wantType === 'WantHave' && state.wants.get(key)?.presenceOnly !== false,
            sendDontHave: sendDontHave === true,
          })
        }
      }
      if (state.pumping) return
      state.pumping = true
      const pumped = state
      pump(name, pumped)
        .catch((error: unknown) => {
          // It will ask again when it still wants them; keeping them would only repeat the failure.
          pumped.wants.clear()
          log.debug({ peer: name, error: String(error) }, 'a peer did not take the blocks it asked for')
        })
        .finally(() => {
          pumped.pumping = false
        })
    },

    disconnected(peer) {
      const state = peers.get(peer.toString())
      if (state === undefined) return
      peers.delete(peer.toString())
      state.wants.clear()
      state.stream.close()
    },

    close() {
      closing.abort(new Error('bitswap is closing'))
      for (const state of peers.values()) {
        state.wants.clear()
        state.stream.close()
      }
      peers.clear()
    },
  }
}

function servable(bytes: Uint8Array): CID | undefined {
  try {
    return decodeCid(bytes)
  } catch {
    return undefined
  }
}
