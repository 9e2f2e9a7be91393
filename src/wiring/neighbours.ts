/** Who is near: the table of neighbours, what fills it and what looks after it. */
import timers from 'node:timers/promises'
import type { Config } from '../config/config.ts'
import { NEIGHBOUR_START_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { createNeighbourProbe } from '../swarm/neighbour-probe.ts'
import { createNeighbourTable } from '../swarm/neighbour-table.ts'
import type { NeighbourTable } from '../swarm/neighbour-table.ts'
import { createNeighbourWatch } from '../swarm/neighbour-watch.ts'
import type { SwarmNode } from '../swarm/node.ts'
import type { NodeState } from './state.ts'
import type { NodeSwarm } from './swarm.ts'

export interface NodeNeighbours {
  readonly table: NeighbourTable
  /**
   * Begins to look for them and after them; those that were named and are there are known when it resolves.
   *
   * @param node the one that runs already
   * @param httpPort of our peer listener; 0: there is none
   */
  start(node: SwarmNode | undefined, httpPort: number): Promise<void>
  close(): Promise<void>
}

export function createNeighbours(
  config: Config,
  { state, swarm }: { state: NodeState; swarm: NodeSwarm },
  { log, clock }: { log: Log; clock: () => number },
): NodeNeighbours {
  const { lan, peers, storeDir } = config
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
    { urls: peers.urls, addrs: peers.addrs, useFound: lan.discover },
  )
  const watch = createNeighbourWatch(table, createNeighbourProbe({ stopwatch }, { storeDir }))
  let forget: (() => void) | undefined

  const discover = (node: SwarmNode, httpPort: number, named: readonly string[]): void => {
    node.discover(
      {
        hello: { http: httpPort, storeDir },
        ...(lan.interfaces === undefined ? {} : { interfaces: lan.interfaces }),
        ...(lan.discover ? { mdns: {} } : {}),
        named,
      },
      (peer) => table.found(peer),
    )
  }

  return {
    table,
    async start(running, httpPort) {
      let named = table.named()
      let node = running
      if (node !== undefined) discover(node, httpPort, named)
      /** One that was added by its multiaddr is the first to need a node, where nobody is answered. */
      const greetNamed = async (): Promise<void> => {
        const now = table.named()
        if (now.join() === named.join()) return
        named = now
        if (node !== undefined) {
          node.name(now)
          return
        }
        try {
          node = await swarm.start(true)
          discover(node, httpPort, table.named())
        } catch (error) {
          log.error(
            { err: error },
            `neighbours that were named by multiaddr are not greeted: ${messageOf(error)}`,
          )
        }
      }
      forget = table.onChange(() => void greetNamed())
      await Promise.race([watch.start(), timers.setTimeout(NEIGHBOUR_START_MS, undefined, { ref: false })])
    },
    async close() {
      forget?.()
      await watch.stop()
    },
  }
}
