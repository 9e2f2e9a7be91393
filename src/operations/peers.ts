import type { NeighbourReport } from '../swarm/neighbour-report.ts'
import type { NeighbourTable } from '../swarm/neighbour-table.ts'
import { time } from './rfc3339.ts'

export const PEER_ACTIONS = ['add', 'remove', 'ban', 'unban'] as const

export interface PeerChange {
  readonly action: (typeof PEER_ACTIONS)[number]
  /** URL, multiaddr, peer id, or id as in the report. */
  readonly peer: string
  /** Of a ban. */
  readonly reason?: string
}

/** The document of `narswarm peer list --json`. New fields may come; `version` changes when one goes. */
export interface PeersReport {
  readonly version: 1
  readonly peers: readonly PeerReport[]
}

export interface PeerReport {
  /** `narswarm:<peer id>` or `cache:<url>`. */
  readonly id: string
  /** Of a `cache:` too: whether it has a gateway for blocks. */
  readonly kind: 'narswarm' | 'cache'
  /** Absent: not reached yet. */
  readonly url?: string
  /** Multiaddr that it was named by. */
  readonly addr?: string
  readonly from: 'config' | 'mdns' | 'added'
  readonly state: NeighbourReport['state']
  /** Why it is not asked. */
  readonly reason?: string
  /** Times are RFC 3339. */
  readonly until?: string
  readonly since: string
  readonly seen?: string
  readonly latency_ms?: number
  /** It was named, and fetches what it has not for those who ask it for differences. */
  readonly relay?: true
}

export function describePeers(table: Pick<NeighbourTable, 'list'>): PeersReport {
  const peers = table.list().map((one): PeerReport => {
    const { id, kind, url, addr, from, state, reason, until, since, seen, latencyMs, isRelay } = one
    return {
      id,
      kind,
      ...(url === undefined ? {} : { url }),
      ...(addr === undefined ? {} : { addr }),
      from,
      state,
      ...(reason === undefined ? {} : { reason }),
      ...(until === undefined ? {} : { until: time(until) }),
      since: time(since),
      ...(seen === undefined ? {} : { seen: time(seen) }),
      ...(latencyMs === undefined ? {} : { latency_ms: Math.round(latencyMs * 10) / 10 }),
      ...(isRelay ? { relay: true } : {}),
    }
  })
  return { version: 1, peers }
}
