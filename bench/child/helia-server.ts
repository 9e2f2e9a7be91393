/** A plain Helia over TLS with the leaves of a file in memory: the peer that our bitswap is held against. */
import { readFileSync } from 'node:fs'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createHeliaLight } from 'helia'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import { LEAF_BYTES } from '../../src/dag/profile.ts'

const { file } = JSON.parse(process.argv[2] ?? '{}') as { file: string }
const helia = withBitswap(
  withLibp2pLight(createHeliaLight(), {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  }),
)
await helia.start()
const bytes = readFileSync(file)
const cids: string[] = []
for (let at = 0; at < bytes.length; at += LEAF_BYTES) {
  const leaf = bytes.subarray(at, at + LEAF_BYTES)
  const cid = rawCid(sha256(leaf))
  await helia.blockstore.put(cid, leaf)
  cids.push(cid.toString())
}
const [address] = helia.libp2p.getMultiaddrs().map(String)
process.stdout.write(`${JSON.stringify({ address, cids })}\n`)
