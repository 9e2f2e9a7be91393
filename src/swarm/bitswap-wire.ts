/**
 * Helia's bitswap as a wire: it owns the protocol handler, reads and bounds what comes in, hashes each block that
 * arrives; who asks whom for what, and who is answered, is decided in `wants.ts` and `ledger.ts`.
 *
 * Why we do not use its session and its ledger (@helia/bitswap 4.0.19):
 * - a session listens for the answer only after the question has been sent in full, so a fast answer is lost and the
 *   caller hangs; a "don't have" evicts the peer for good, and every later get in that session hangs; an aborted get
 *   sends no cancel;
 * - the ledger reads every block that a peer wants into memory before the first is sent (1,024 MiB are legal), reads
 *   a block to say that it has it, and asks the network for one that vanished between its `has` and its `get`.
 *
 * This is the one place that reaches into Helia: `bitswap` is private in its typings, the rest is public. The versions
 * are pinned exactly, and what is not as expected is an error at start, not a hang later.
 */
import type { HeliaWithLibp2p } from '@helia/libp2p'
import type { PeerId, ServiceMap } from '@libp2p/interface'
import type { CID } from 'multiformats/cid'

export const BITSWAP_PROTOCOL = '/ipfs/bitswap/1.2.0'

/** As Helia's decoder gives it; the CID bytes are unchecked. */
export interface Wantlist {
  readonly full?: boolean
  readonly entries: readonly {
    readonly cid: Uint8Array
    readonly cancel?: boolean
    readonly wantType?: 'WantBlock' | 'WantHave'
    readonly sendDontHave?: boolean
  }[]
}

/** What a peer says about a block. `cid` has been computed from `block` when there is one, else it is the peer's word. */
export interface Answer {
  readonly sender: PeerId
  readonly cid: CID
  readonly has: boolean
  readonly block?: Uint8Array
}

export interface BitswapListeners {
  onWantlist(peer: PeerId, wantlist: Wantlist): void
  onAnswer(answer: Answer): void
}

/** The parts of class Bitswap that we lean on. */
interface BitswapInternals {
  wantList: { addEventListener(type: 'presence', listener: (event: CustomEvent<Answer>) => void): void }
  peerWantLists: { receiveMessage(peer: PeerId, message: { wantlist?: Wantlist }): void }
}

/** To be called once, after `helia.start()`. */
export function attachToBitswap(helia: HeliaWithLibp2p<ServiceMap>, listeners: BitswapListeners): void {
  const { blockBrokers } = helia as unknown as {
    blockBrokers?: { name: string; bitswap?: BitswapInternals }[]
  }
  const bitswap = blockBrokers?.find((broker) => broker.name === 'bitswap')?.bitswap
  if (
    typeof bitswap?.wantList?.addEventListener !== 'function' ||
    typeof bitswap.peerWantLists?.receiveMessage !== 'function'
  ) {
    throw new TypeError('this Helia is not the one that narswarm was written for (@helia/bitswap 4.0.19)')
  }
  bitswap.wantList.addEventListener('presence', (event) => {
    listeners.onAnswer(event.detail)
  })
  bitswap.peerWantLists.receiveMessage = (peer, message) => {
    if (message.wantlist !== undefined) listeners.onWantlist(peer, message.wantlist)
  }
}
