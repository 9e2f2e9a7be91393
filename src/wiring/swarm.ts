/** The libp2p node: started on first use, or when serving begins. */
import { join } from 'node:path'
import { shares } from '../config/config.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
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
  close(): Promise<void>
}

export function createSwarm(config: Config, state: NodeState, { log }: { log: Log }): NodeSwarm {
  const { stateDir, storeDir, storeRoot } = config
  const { stateDb, spoolDir, store } = state
  const storePlace = { storeDir, ...(storeRoot === undefined ? {} : { root: storeRoot }) }
  const line = createSharedLine(config.share.upload)
  const serve = { stateDb, spoolDir, ...(store === undefined ? {} : { store: storePlace }) }
  let started: Promise<SwarmNode> | undefined
  return {
    upload: createUpload(line),
    start: (answer) =>
      (started ??= startSwarmNode(
        {
          keyFile: join(stateDir, 'libp2p', 'key'),
          listen: answer ? config.swarm.listen : [],
          ...(answer && shares(config) ? { serve } : {}),
          ...(config.profile === 'lan' ? { lan: { alsoDials: config.peers.addrs } } : {}),
          line,
        },
        { log },
      )),
    async close() {
      await (await started)?.stop()
    },
  }
}
