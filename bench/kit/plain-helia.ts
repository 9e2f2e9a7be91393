import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import type { CID } from 'multiformats/cid'

interface PlainHelia {
  /** One that asks this peer alone. */
  session(root: CID): {
    get(cid: CID, options: { signal: AbortSignal }): AsyncIterable<Uint8Array> | Iterable<Uint8Array>
  }
}

/** A plain Helia over TLS, connected to one peer and to nobody else. It lasts as long as its process. */
export async function dialByPlainHelia(address: string): Promise<PlainHelia> {
  const helia = withBitswap(
    withLibp2pLight(createHeliaLight(), {
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [tls()],
      streamMuxers: [yamux()],
      services: { identify: identify() },
    }),
  )
  await helia.start()
  const { remotePeer } = await helia.libp2p.dial(multiaddr(address))
  return {
    session: (root) =>
      helia.blockstore.createSession(root, {
        providers: [remotePeer.toCID()],
        minProviders: 1,
        maxProviders: 1,
      }),
  }
}
