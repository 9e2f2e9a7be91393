import type { Libp2p, PeerId, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { BITSWAP_MESSAGE_DEADLINE_MS, BITSWAP_STREAM_LINGER_MS, SWARM_DIAL_DEADLINE_MS } from '../limits.ts'
import { BITSWAP_PROTOCOL } from './bitswap-wire.ts'

/** Our talking end towards one peer. Bitswap answers on streams of its own, so each side only writes on those it opened. */
export interface PeerStream {
  /**
   * Resolves when the peer's connection has taken the bytes, which is what holds back a fast sender. Calls must not overlap.
   *
   * @throws when the peer cannot be reached or does not take them within BITSWAP_MESSAGE_DEADLINE_MS
   */
  send(parts: readonly Uint8Array[]): Promise<void>
  close(): void
}

/**
 * One stream serves for many messages as long as they follow each other closely: opening one costs a round trip. It is
 * closed after BITSWAP_STREAM_LINGER_MS of silence, since a Helia with its defaults resets a stream that was silent
 * for 10 s, and what was written into that moment would be lost without an error.
 *
 * @param target dialled when the peer has no connection
 */
export function createPeerStream(libp2p: Libp2p, target: () => PeerId | Multiaddr): PeerStream {
  let current: Stream | undefined
  let linger: NodeJS.Timeout | undefined

  const retire = (): void => {
    const stream = current
    current = undefined
    stream?.close({ signal: AbortSignal.timeout(BITSWAP_MESSAGE_DEADLINE_MS) }).catch((error: unknown) => {
      stream.abort(error instanceof Error ? error : new Error(String(error)))
    })
  }

  const open = async (): Promise<Stream> => {
    if (current?.status === 'open' && current.writeStatus === 'writable') return current
    const signal = AbortSignal.timeout(SWARM_DIAL_DEADLINE_MS)
    const stream = await libp2p.dialProtocol(target(), BITSWAP_PROTOCOL, { signal })
    await stream.closeRead({ signal })
    current = stream
    return stream
  }

  return {
    async send(parts) {
      clearTimeout(linger)
      const stream = await open()
      try {
        let writable = true
        for (const part of parts) writable = stream.send(part)
        if (!writable) await stream.onDrain({ signal: AbortSignal.timeout(BITSWAP_MESSAGE_DEADLINE_MS) })
      } catch (error) {
        current = undefined
        stream.abort(error instanceof Error ? error : new Error(String(error)))
        throw error
      }
      linger = setTimeout(retire, BITSWAP_STREAM_LINGER_MS)
    },
    close() {
      clearTimeout(linger)
      retire()
    },
  }
}
