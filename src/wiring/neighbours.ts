/** Who is near: the table of neighbours, what fills it and what looks after it. */
import timers from 'node:timers/promises'
import type { Config } from '../config/config.ts'
import { NEIGHBOUR_START_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { createNeighbourProbe } from '../swarm/neighbour-probe.ts'
import { createNeighbourTable } from '../swarm/neighbour-table.ts'
import type { NeighbourTable } from '../swarm/neighbour-table.ts'
import { createNeighbourWatch } from '../swarm/neighbour-watch.ts'
import type { NodeState } from './state.ts'
import type { NodeSwarm } from './swarm.ts'

export interface NodeNeighbours {
  readonly table: NeighbourTable
  /** Begins to look after them; those that were named and are there are known when it resolves. */
  start(): Promise<void>
  close(): Promise<void>
}

export function createNeighbours(
  config: Config,
  { state, swarm }: { state: NodeState; swarm: NodeSwarm },
  { log, clock }: { log: Log; clock: () => number },
): NodeNeighbours {
  const stopwatch = (): number => performance.now()
  const table = createNeighbourTable(
    {
      rows: state.neighbourRows,
      bestEffort: state.bestEffort,
      clock,
      stopwatch,
      ownId: () => swarm.ownId,
      log,
    },
    { urls: config.peers.urls, addrs: config.peers.addrs, useFound: config.profile === 'lan' },
  )
  const watch = createNeighbourWatch(
    table,
    createNeighbourProbe({ stopwatch }, { storeDir: config.storeDir }),
  )
  return {
    table,
    async start() {
      await Promise.race([watch.start(), timers.setTimeout(NEIGHBOUR_START_MS, undefined, { ref: false })])
    },
    close: () => watch.stop(),
  }
}
