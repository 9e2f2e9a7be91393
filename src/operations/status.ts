/**
 * The document of `narswarm status --json` and `/api/v1/status`. Written out field by field, so that nothing of the
 * configuration can leak into it by being added there. New fields may come; `version` changes when one goes.
 */
import type { Origin } from '../config/config.ts'
import { STATUS_PEERS_MAX_COUNT } from '../limits.ts'
import type { SpoolUsage } from '../spool/spool.ts'
import type { UpstreamStatus } from '../upstream/upstream.ts'
import type { AuditStatus } from './audit-report.ts'
import type { BlocksReport, FetchedReport, NarsReport, SourceStatus } from './bytes-report.ts'
import type { FeedsReport } from './feeds-report.ts'
import { time } from './rfc3339.ts'

export interface StatusDocument {
  readonly version: 1
  readonly narswarm: string
  readonly profile: string
  /** RFC 3339. */
  readonly started: string
  readonly cache: { readonly url: string; readonly priority: number }
  readonly peer?: { readonly url: string }
  readonly swarm?: { readonly peer_id: string; readonly addrs: readonly string[] }
  readonly trusted_keys: readonly string[]
  readonly share_keys: readonly string[]
  readonly upstreams: readonly UpstreamReport[]
  readonly peers: readonly string[]
  readonly spool: SpoolStatus
  /** Absent where nothing is shared from a store, or nothing is indexed by itself. */
  readonly store?: StoreStatus
  readonly transfers: { readonly running: number }
  readonly nars: readonly NarsReport[]
  readonly fetched: FetchedReport
  readonly sources: readonly SourceStatus[]
  /** Single blocks since `started`. */
  readonly blocks: BlocksReport
  /** Absent where `upgrade.relay` is off. */
  readonly relay?: RelayStatus
  readonly audit: AuditStatus
  readonly feeds: FeedsReport
  /** What others got since `started`; absent where nothing is shared. */
  readonly uploads?: UploadStatus
}

export interface UpstreamReport {
  readonly url: string
  /** Where it was named: `nix.conf`, `file` (the configuration), `environment`, `flag` or `default`. */
  readonly from: string
  /** `resting`: it failed too often in a row, and is left alone; `unfit`: it is no binary cache for our store. */
  readonly state: 'ok' | 'resting' | 'unfit'
  /** Of its nix-cache-info, once that was read. */
  readonly priority?: number
  /** Earliest time of the next try, RFC 3339. */
  readonly until?: string
  /** Of the last request that failed; absent again after one that did not. */
  readonly last_error?: string
}

export interface SpoolStatus {
  /** Whole ones. */
  readonly nars: number
  readonly bytes: number
  /** Of them those published from here, which are never evicted and not counted in the quota. */
  readonly pinned_bytes: number
  /** Kept parts of NARs that broke off. */
  readonly parts: number
  readonly part_bytes: number
  readonly max_bytes: number
  readonly min_free_bytes: number
  /** On its file system; absent when that does not say. */
  readonly free_bytes?: number
  /** NARs and parts since `started`. */
  readonly evicted: number
  readonly evicted_bytes: number
}

/** What others may have out of the Nix store. */
export interface StoreStatus {
  /** Paths whose blocks are found by CID. */
  readonly indexed: number
  readonly indexed_bytes: number
  /** NARs that are still to be read for that; absent until the store was looked through once. */
  readonly to_go?: number
  readonly to_go_bytes?: number
}

/** What this machine fetches for others who ask for differences. */
export interface RelayStatus {
  readonly max_bytes_per_day: number
  /** Of NARs as they are, not as they were packed. */
  readonly bytes_today: number
  /** Fetched since `started`. */
  readonly nars: number
  /** Paths that are looked for or fetched now. */
  readonly under_way: number
}

export interface UploadStatus {
  /** Over all doors. */
  readonly bytes: number
  /** `share.upload`; absent when there is no limit. */
  readonly max_bytes_per_second?: number
  /** Over HTTP, those heard of last first; bitswap is in `bytes` alone. */
  readonly peers: readonly UploadPeer[]
}

interface UploadPeer {
  /** An address, or the /64 of one. */
  readonly address: string
  readonly bytes: number
  readonly requests: number
  /** Over the budget of an address. */
  readonly refused: number
}

export function describeUpstream(
  upstream: { url: URL; status(): UpstreamStatus },
  from: Origin,
  now: number,
): UpstreamReport {
  const { state, priority, restsMs, lastError } = upstream.status()
  return {
    url: upstream.url.href,
    from,
    state,
    ...(priority === undefined ? {} : { priority }),
    ...(restsMs === undefined ? {} : { until: time(now + restsMs) }),
    ...(lastError === undefined ? {} : { last_error: lastError }),
  }
}

export function describeSpool(usage: SpoolUsage, freeBytes: number | undefined): SpoolStatus {
  return {
    nars: usage.nars,
    bytes: usage.bytes,
    pinned_bytes: usage.pinnedBytes,
    parts: usage.parts,
    part_bytes: usage.partBytes,
    max_bytes: usage.maxBytes,
    min_free_bytes: usage.minFreeBytes,
    ...(freeBytes === undefined ? {} : { free_bytes: freeBytes }),
    evicted: usage.evicted,
    evicted_bytes: usage.evictedBytes,
  }
}

export function describeUploads(
  bytes: number,
  maxBytesPerSecond: number | undefined,
  peers: readonly UploadPeer[],
): UploadStatus {
  return {
    bytes,
    ...(maxBytesPerSecond === undefined ? {} : { max_bytes_per_second: maxBytesPerSecond }),
    peers: peers
      .slice(0, STATUS_PEERS_MAX_COUNT)
      .map(({ address, requests, refused, bytes: given }) => ({ address, bytes: given, requests, refused })),
  }
}
