/** A plain Helia over TLS: a window of leaves asked of one session with one peer, as fast as it goes. */
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { parseCid } from '../../src/dag/cid.ts'
import { LEAF_WINDOW_COUNT } from '../../src/limits.ts'

const { address, cids } = JSON.parse(process.argv[2] ?? '{}') as { address: string; cids: string[] }
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
const [first = ''] = cids
const session = helia.blockstore.createSession(parseCid(first), {
  providers: [remotePeer.toCID()],
  minProviders: 1,
  maxProviders: 1,
})
const signal = AbortSignal.timeout(300_000)
const begun = performance.now()
let bytes = 0
let next = 0
const worker = async (): Promise<void> => {
  while (next < cids.length) {
    const cid = parseCid(cids[next++] ?? '')
    for await (const piece of session.get(cid, { signal })) bytes += piece.length
  }
}
await Promise.all(Array.from({ length: LEAF_WINDOW_COUNT }, worker))
process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, bytes })}\n`)
process.exit(0)
