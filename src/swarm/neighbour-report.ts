import type { Entry } from './neighbour-entry.ts'
import { fromOf } from './neighbour-entry.ts'
import type { NeighbourRow } from './neighbour-rows.ts'
import type { Neighbour, NeighbourId } from './neighbours.ts'

/**
 * `ok`: it answered when it was last asked. `unknown`: nobody has asked it yet. `resting`: it failed, and is left alone.
 * `out`: it gave wrong bytes. `banned`: by a person.
 */
type NeighbourState = 'ok' | 'unknown' | 'resting' | 'out' | 'banned'

/** Times are milliseconds of the wall clock. */
export interface NeighbourReport {
  readonly id: NeighbourId
  readonly kind: Neighbour['kind']
  /** Absent: never reached. */
  readonly url?: string
  /** Multiaddr that it was named by. */
  readonly addr?: string
  readonly from: Neighbour['from']
  readonly state: NeighbourState
  /** Why it is not `ok`. */
  readonly reason?: string
  /** When it is asked again. */
  readonly until?: number
  readonly since: number
  readonly seen?: number
  /** Of the last probe. */
  readonly latencyMs?: number
  /** It was named, and says that it is one. */
  readonly isRelay: boolean
}

/** @param now.ban its own, or of its URL */
export function reportOf(
  entry: Entry,
  now: {
    readonly ban: NeighbourRow['ban']
    readonly isOut: boolean
    readonly isRelay: boolean
    readonly clock: () => number
    readonly stopwatch: () => number
  },
): NeighbourReport {
  const { id, kind, url, addr, since, seen, latencyMs } = entry
  return {
    id,
    kind,
    ...(url === undefined ? {} : { url: url.href }),
    ...(addr === undefined ? {} : { addr }),
    from: fromOf(entry),
    since,
    ...(seen === undefined ? {} : { seen }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
    isRelay: now.isRelay,
    ...stateOf(entry, now),
  }
}

function stateOf(
  { contact, reason, lie, probeAt }: Entry,
  { ban, isOut, clock, stopwatch }: Parameters<typeof reportOf>[1],
): Pick<NeighbourReport, 'state' | 'reason' | 'until'> {
  if (ban !== undefined) return { state: 'banned', reason: ban.reason }
  if (isOut && lie !== undefined) return { state: 'out', reason: lie.reason, until: lie.until }
  if (contact !== 'resting') return { state: contact }
  const until = clock() + Math.max(0, probeAt - stopwatch())
  return { state: contact, ...(reason === undefined ? {} : { reason }), until }
}
