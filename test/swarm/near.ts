import type { Neighbour, NeighbourId, Neighbours } from '../../src/swarm/neighbours.ts'

export interface TestNeighbours extends Neighbours {
  /** Lets one that is out be asked again. */
  unban(id: NeighbourId): void
  readonly told: { failed: string[]; lied: string[]; answered: string[] }
}

export function neighbour(name: string, url: URL | string, kind: Neighbour['kind'] = 'narswarm'): Neighbour {
  const told = { hasCache: true, knowsDifferences: false }
  return { id: `${kind}:${name}`, kind, url: new URL(url), from: 'config', ...told }
}

/** A table that remembers what it was told, and leaves out those that failed or lied. */
export function neighboursOf(...all: readonly Neighbour[]): TestNeighbours {
  const told: TestNeighbours['told'] = { failed: [], lied: [], answered: [] }
  const out = new Set<NeighbourId>()
  return {
    told,
    unban: (id) => void out.delete(id),
    current: () => all.filter(({ id }) => !out.has(id)),
    onChange: () => () => {},
    answered: (id) => void told.answered.push(id),
    failed(id, reason) {
      told.failed.push(`${id}: ${reason}`)
      out.add(id)
    },
    lied(id, reason) {
      told.lied.push(`${id}: ${reason}`)
      out.add(id)
    },
  }
}
