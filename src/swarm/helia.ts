import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createHeliaLight } from 'helia'
import {
  BITSWAP_MESSAGE_BYTES,
  BITSWAP_MESSAGE_DEADLINE_MS,
  BITSWAP_PEER_STREAMS_COUNT,
  SWARM_DIAL_DEADLINE_MS,
  SWARM_INBOUND_PER_SECOND,
  SWARM_MAX_CONNECTIONS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { lanGate } from './address-gate.ts'
import { attachToBitswap } from './bitswap-wire.ts'
import type { SharedBlocks } from './blockstore.ts'
import { createHeliaBlockstore } from './blockstore.ts'
import { createDiscovery } from './discovery.ts'
import type { Discovery } from './discovery.ts'
import { loadIdentity } from './identity.ts'
import { createLedger } from './ledger.ts'
import type { Upload } from './upload.ts'
import type { Wants } from './wants.ts'
import { createWants } from './wants.ts'
import type { WorkerConfig } from './worker-protocol.ts'

export interface HeliaNode {
  readonly peerId: string
  readonly wants: Wants
  readonly discovery: Discovery
  /** Multiaddrs with `/p2p/<peer id>`; none when it only dials. */
  addrs(): string[]
  stop(): Promise<void>
}

/**
 * A Helia with exactly what is named here: no bootstrap, no discovery, no DHT, no relay, no gateway, no router
 * (the defaults of `createHelia` listen everywhere and call services that may be gone [ipfs-stack 1.1]).
 */
export async function startHelia(
  config: Pick<WorkerConfig, 'keyFile' | 'listen' | 'lan'>,
  deps: {
    readonly blocks: SharedBlocks
    readonly upload: Upload
    readonly onNeighbour: (peerId: string, url: string) => void
    readonly log: Log
  },
): Promise<HeliaNode> {
  const { blocks, upload, onNeighbour, log } = deps
  const named = new Set(config.lan?.alsoDials)
  const privateKey = await loadIdentity(config.keyFile)
  const helia = withBitswap(
    withLibp2pLight(createHeliaLight({ blockstore: createHeliaBlockstore(blocks) }), {
      privateKey,
      // Identify tells it to every peer; which versions of what we are made of is nobody's business.
      nodeInfo: { userAgent: 'narswarm' },
      addresses: { listen: [...config.listen] },
      ...(config.lan === undefined ? {} : { connectionGater: lanGate(named) }),
      transports: [tcp()],
      // The dialler's order decides, and TLS is a third faster than noise; Kubo speaks both.
      connectionEncrypters: [tls(), noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), ping: ping() },
      connectionManager: {
        maxConnections: SWARM_MAX_CONNECTIONS,
        inboundConnectionThreshold: SWARM_INBOUND_PER_SECOND,
        dialTimeout: SWARM_DIAL_DEADLINE_MS,
      },
      // A ping that waits behind a leaf on a slow link is late, and no reason to hang up [ipfs-stack 2.3].
      connectionMonitor: { abortConnectionOnPingFailure: false },
    }),
    {
      messageReceiveTimeout: BITSWAP_MESSAGE_DEADLINE_MS,
      messageSendTimeout: BITSWAP_MESSAGE_DEADLINE_MS,
      maxOutgoingMessageSize: BITSWAP_MESSAGE_BYTES,
      maxInboundStreams: BITSWAP_PEER_STREAMS_COUNT,
      maxOutboundStreams: BITSWAP_PEER_STREAMS_COUNT,
    },
  )
  await helia.start()
  const { libp2p } = helia
  const wants = createWants(libp2p)
  const ledger = createLedger({ libp2p, blocks, upload, clock: () => performance.now(), log })
  const discovery = await createDiscovery({ libp2p, listen: config.listen, onMet: onNeighbour, named, log })
  attachToBitswap(helia, {
    onWantlist: (peer, wantlist) => {
      ledger.receive(peer, wantlist)
    },
    onAnswer: (answer) => {
      wants.answered(answer)
    },
  })
  libp2p.addEventListener('peer:disconnect', ({ detail }) => {
    wants.disconnected(detail)
    ledger.disconnected(detail)
  })
  return {
    peerId: libp2p.peerId.toString(),
    wants,
    discovery,
    addrs: () => libp2p.getMultiaddrs().map(String),
    async stop() {
      await discovery.stop()
      wants.close()
      ledger.close()
      await helia.stop()
    },
  }
}
