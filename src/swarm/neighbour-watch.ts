import { NEIGHBOUR_PROBES_COUNT, NEIGHBOUR_TURN_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import { isNarswarmId } from './neighbour-id.ts'
import type { NeighbourProbe } from './neighbour-probe.ts'
import type { NeighbourTable } from './neighbour-table.ts'
import type { NeighbourId } from './neighbours.ts'

export interface NeighbourWatch {
  /** Resolves when those that are known now have answered or failed. */
  start(): Promise<void>
  stop(): Promise<void>
}

/** Asks each neighbour from time to time whether it is there, so that one that is not has left the table before Nix asks. */
export function createNeighbourWatch(
  table: Pick<NeighbourTable, 'due' | 'dueInMs' | 'probed' | 'onChange'>,
  probe: NeighbourProbe,
): NeighbourWatch {
  const controller = new AbortController()
  const { signal } = controller
  const underWay = new Map<NeighbourId, Promise<void>>()
  let timer: NodeJS.Timeout | undefined
  let forget: (() => void) | undefined

  const ask = async (id: NeighbourId, url: URL): Promise<void> => {
    try {
      const answer = await probe.ask(url, isNarswarmId(id), { signal })
      if (!signal.aborted) table.probed(id, url, answer)
    } catch (error) {
      if (!signal.aborted) table.probed(id, url, { error: messageOf(error) })
    }
  }

  const turn = (): void => {
    if (signal.aborted) return
    clearTimeout(timer)
    for (const { id, url } of table.due()) {
      if (underWay.size >= NEIGHBOUR_PROBES_COUNT) break
      if (underWay.has(id)) continue
      const asked = ask(id, url).finally(() => {
        underWay.delete(id)
        turn()
      })
      underWay.set(id, asked)
    }
    // One under way is still due: its end is the next turn, and so is every change of the table.
    timer = setTimeout(turn, Math.max(NEIGHBOUR_TURN_MS, table.dueInMs()))
    timer.unref()
  }

  return {
    async start() {
      forget = table.onChange(turn)
      turn()
      await Promise.all(underWay.values())
    },
    async stop() {
      controller.abort()
      forget?.()
      clearTimeout(timer)
      await Promise.all(underWay.values())
      await probe.close()
    },
  }
}
