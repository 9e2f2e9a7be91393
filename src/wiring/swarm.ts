/** The libp2p node: started on first use, or when serving begins. */
import { join } from 'node:path'
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import { narswarmId } from '../swarm/neighbour-id.ts'
import type { NeighbourId } from '../swarm/neighbours.ts'
import { startSwarmNode } from '../swarm/node.ts'
import type { SwarmNode } from '../swarm/node.ts'
import { createSharedLine, createUpload } from '../swarm/upload.ts'
import type { Upload } from '../swarm/upload.ts'
import type { NodeState } from './state.ts'

export interface NodeSwarm {
  /** Of the main thread; what bitswap sends counts as well. */
  readonly upload: Upload
  /** @param answer whether it listens and gives, as the profile says; what the first call says holds */
  start(answer: boolean): Promise<SwarmNode>
  /** Of this machine as a neighbour; undefined until the node has been started. */
  readonly ownId: NeighbourId | undefined
  close(): Promise<void>
}

export function createSwarm(config: Config, state: NodeState, { log }: { log: Log }): NodeSwarm {
  const { stateDir, storeDir, storeRoot } = config
  const { stateDb, spoolDir, store } = state
  const storePlace = { storeDir, ...(storeRoot === undefined ? {} : { root: storeRoot }) }
  const line = createSharedLine(config.share.upload)
  const serve = { stateDb, spoolDir, ...(store === undefined ? {} : { store: storePlace }) }
  let started: Promise<SwarmNode> | undefined
  let running: SwarmNode | undefined
  const startNode = async (answer: boolean): Promise<SwarmNode> => {
    running = await startSwarmNode(
      {
        keyFile: join(stateDir, 'libp2p', 'key'),
        listen: answer ? config.swarm.listen : [],
        ...(answer && shares(config) ? { serve } : {}),
        ...(config.profile === 'lan' ? { lan: { alsoDials: config.peers.addrs } } : {}),
        line,
      },
      { log },
    )
    return running
  }
  return {
    upload: createUpload(line),
    start: (answer) => (started ??= startNode(answer)),
    get ownId() {
      return running === undefined ? undefined : narswarmId(running.peerId)
    },
    async close() {
      await (await started)?.stop()
    },
  }
}
