import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { parseCid } from '../../src/dag/cid.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { createPlanner } from '../../src/dag/planner.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { openSpool } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import type { SwarmNode } from '../../src/swarm/node.ts'
import { startSwarmNode } from '../../src/swarm/node.ts'
import type { SharedLine } from '../../src/swarm/upload.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

export const BITSWAP = '/ipfs/bitswap/1.2.0'
export const LOOPBACK = '/ip4/127.0.0.1/tcp/0'
/** Nobody has it. */
export const ABSENT = parseCid('bafkreiabaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibae')

export interface Content {
  readonly bytes: Uint8Array
  readonly shared: boolean
}

/** A node of ours with these NARs in its spool; stopped after the test. */
export async function servingNode(
  t: TestContext,
  contents: readonly Content[],
  options: { dir?: string; listen?: string; line?: SharedLine } = {},
): Promise<{ node: SwarmNode; address: string; dir: string; plans: NarPlan[] }> {
  const dir = options.dir ?? (await tempDir(t))
  const log = recordingLog()
  const stateDb = join(dir, 'state.sqlite')
  const spoolDir = join(dir, 'spool')
  const db = openDatabase(stateDb)
  t.after(() => db.close())
  const spool = await openSpool({ db, dir: spoolDir, log })
  const index = openLeafIndex(db)
  const plans: NarPlan[] = []
  for (const { bytes, shared } of contents) {
    const planner = createPlanner()
    planner.update(bytes)
    const plan = planner.finish()
    const file = await spool.create({ narHash: plan.narHash, narSize: plan.narSize })
    await file.append(bytes)
    await file.commit()
    index.put(plan, { shared, inSpool: true })
    plans.push(plan)
  }
  const node = await startNode(t, dir, {
    listen: [options.listen ?? LOOPBACK],
    serve: { stateDb, spoolDir },
    ...(options.line === undefined ? {} : { line: options.line }),
  })
  return { node, address: onlyAddress(node.addrs()), dir, plans }
}

/** A node of ours that asks and serves nothing; stopped after the test. */
export async function askingNode(t: TestContext, log = recordingLog()): Promise<SwarmNode> {
  return startNode(t, await tempDir(t), { listen: [] }, log)
}

export async function startNode(
  t: TestContext,
  dir: string,
  config: Omit<Parameters<typeof startSwarmNode>[0], 'keyFile'>,
  log = recordingLog(),
): Promise<SwarmNode> {
  const node = await startSwarmNode({ keyFile: join(dir, 'libp2p', 'key'), ...config }, { log })
  t.after(() => node.stop())
  return node
}

/** A bare libp2p that speaks bitswap as the test tells it to; stopped after the test. */
export async function scriptedPeer(
  t: TestContext,
  onMessage: (message: Uint8Array, peer: ScriptedPeer, from: Libp2p['peerId']) => void,
): Promise<ScriptedPeer> {
  const libp2p = await createLibp2p({
    addresses: { listen: [LOOPBACK] },
    transports: [tcp()],
    connectionEncrypters: [tls()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  })
  t.after(() => libp2p.stop())
  const peer: ScriptedPeer = {
    libp2p,
    address: onlyAddress(libp2p.getMultiaddrs().map(String)),
    async send(to, parts) {
      const stream = await libp2p.dialProtocol(to, BITSWAP)
      for (const part of parts) stream.send(part)
      await stream.close()
    },
  }
  await libp2p.handle(BITSWAP, (stream: Stream, connection) => {
    stream.addEventListener('message', ({ data }) => {
      onMessage(data.subarray(), peer, connection.remotePeer)
    })
  })
  return peer
}

export interface ScriptedPeer {
  readonly libp2p: Libp2p
  readonly address: string
  send(to: Libp2p['peerId'], parts: readonly Uint8Array[]): Promise<void>
}

function onlyAddress(addresses: readonly string[]): string {
  const [address] = addresses
  if (address === undefined) throw new Error('the node listens nowhere')
  return address
}
