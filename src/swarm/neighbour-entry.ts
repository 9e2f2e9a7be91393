import { isNarswarmId } from './neighbour-id.ts'
import type { NeighbourRow } from './neighbour-rows.ts'
import type { Neighbour, NeighbourId } from './neighbours.ts'

/** All that the table knows of a neighbour. Times are milliseconds of the wall clock. */
export interface Entry {
  readonly id: NeighbourId
  kind: Neighbour['kind']
  /** By the last probe; undefined before the first. */
  hasCache: boolean | undefined
  url: URL | undefined
  addr: string | undefined
  readonly configured: boolean
  added: boolean
  readonly since: number
  seen: number | undefined
  savedSeen: number | undefined
  lie: NeighbourRow['lie']
  ban: NeighbourRow['ban']
  contact: 'ok' | 'unknown' | 'resting'
  reason: string | undefined
  inARow: number
  /** Of the stopwatch. */
  probeAt: number
  latencyMs: number | undefined
  /** It said so when it was last asked. */
  isRelay: boolean
  knowsDifferences: boolean
}

/** One that nobody has asked yet. */
export function createEntry(id: NeighbourId, since: number, known: Partial<Entry>): Entry {
  return {
    id,
    kind: isNarswarmId(id) ? 'narswarm' : 'cache',
    hasCache: undefined,
    url: undefined,
    addr: undefined,
    configured: false,
    added: false,
    since,
    seen: undefined,
    savedSeen: undefined,
    lie: undefined,
    ban: undefined,
    contact: 'unknown',
    reason: undefined,
    inARow: 0,
    probeAt: 0,
    latencyMs: undefined,
    isRelay: false,
    knowsDifferences: isNarswarmId(id),
    ...known,
  }
}

export function fromOf({ id, configured, added }: Entry): Neighbour['from'] {
  // A cache that is here for its ban alone was named by a person too.
  return configured ? 'config' : added || !isNarswarmId(id) ? 'added' : 'mdns'
}

/** A row of a cache that was seen once says so, too: whoever looks for a path after a restart has no time for a probe. */
export function hasCache({ id, kind, hasCache: told, seen }: Entry): boolean {
  return isNarswarmId(id) || (told ?? (kind === 'cache' && seen !== undefined))
}

export function urlOf({ url }: NeighbourRow): URL | undefined {
  return url === undefined ? undefined : (URL.parse(url) ?? undefined)
}

export function rowOf({ id, kind, url, addr, added, since, seen, lie, ban }: Entry): NeighbourRow {
  return {
    id,
    kind,
    ...(url === undefined ? {} : { url: url.href }),
    ...(addr === undefined ? {} : { addr }),
    added,
    since,
    ...(seen === undefined ? {} : { seen }),
    ...(lie === undefined ? {} : { lie }),
    ...(ban === undefined ? {} : { ban }),
  }
}
