/** The libp2p node: started on first use, or when serving begins. */
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import { startSwarmNode } from '../swarm/node.ts'
import type { SwarmNode } from '../swarm/node.ts'
import type { NodeState } from './state.ts'

export interface NodeSwarm {
  /** @param answer whether it listens and gives, as the profile says; what the first call says holds */
  start(answer: boolean): Promise<SwarmNode>
  close(): Promise<void>
}

export function createSwarm(config: Config, state: NodeState, { log }: { log: Log }): NodeSwarm {
  const { stateDir, storeDir, storeRoot } = config
  const { stateDb, spoolDir, store } = state
  const storePlace = { storeDir, ...(storeRoot === undefined ? {} : { root: storeRoot }) }
  const serve = { stateDb, spoolDir, ...(store === undefined ? {} : { store: storePlace }) }
  let started: Promise<SwarmNode> | undefined
  return {
    start: (answer) =>
      (started ??= startSwarmNode(
        {
          keyFile: join(stateDir, 'libp2p', 'key'),
          listen: answer ? config.swarm.listen : [],
          ...(answer && config.profile !== 'private' ? { serve } : {}),
        },
        { log },
      )),
    async close() {
      await (await started)?.stop()
    },
  }
}
