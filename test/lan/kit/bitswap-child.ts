/** A stranger with a plain Helia: asks one peer for blocks by bitswap, and tells which of them it got. */
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createHeliaLight } from 'helia'
import { parseCid } from '../../../src/dag/cid.ts'

const { address, cids } = JSON.parse(process.argv[2] ?? '{}') as { address: string; cids: string[] }
const PATIENCE_MS = 5_000
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

async function have(text: string): Promise<boolean> {
  const cid = parseCid(text)
  const signal = AbortSignal.timeout(PATIENCE_MS)
  try {
    const session = helia.blockstore.createSession(cid, {
      providers: [remotePeer.toCID()],
      minProviders: 1,
      maxProviders: 1,
    })
    for await (const _ of session.get(cid, { signal })) return true
  } catch {
    // Not told, or in time.
  }
  return false
}

const had = await Promise.all(cids.map(have))
process.stdout.write(JSON.stringify(had))
process.exit(0)
