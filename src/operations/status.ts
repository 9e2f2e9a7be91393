/**
 * The document of `narswarm status --json` and `/api/v1/status`. Written out field by field, so that nothing of the
 * configuration can leak into it by being added there. New fields may come; `version` changes when one goes.
 */
import type { Origin } from '../config/config.ts'
import { STATUS_PEERS_MAX_COUNT } from '../limits.ts'
import type { BadEntry } from '../feed/feed-store.ts'
import type { FeedStatus } from '../feed/follower.ts'
import type { PublisherStatus } from '../feed/publisher.ts'
import type { SpoolUsage } from '../spool/spool.ts'
import type { Scores } from '../substitute/scores.ts'
import { SOURCE_KINDS } from '../source.ts'
import type { SourceKind } from '../source.ts'
import type { NarCounts } from '../substitute/tally.ts'
import type { UpstreamStatus } from '../upstream/upstream.ts'
import type { WireBytes, WireCount } from './wire-count.ts'

interface SourceStatus {
  readonly id: string
  readonly bytes: number
  /** What those were on the wire, coded or not; of sources of blocks alone. */
  readonly wire_bytes?: number
  /** Of both those of blocks that came as the difference from one that is here; absent where there were none. */
  readonly by_difference?: WireCounts
  /** Average of a block, milliseconds; absent before the first. */
  readonly average_ms?: number
  readonly faults: number
  readonly lies: number
  /** Left alone for now. */
  readonly out: boolean
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

export interface AuditStatus {
  /** 0: none are made by themselves. */
  readonly max_bytes_per_day: number
  readonly bytes_today: number
  /** Claims audited in the last 30 days, by what came of it. */
  readonly right: number
  readonly wrong: number
  /** Nobody gave the bytes. */
  readonly unavailable: number
  /** No trusted key signed them. */
  readonly untrusted: number
  /** Proved wrong ever, by audits or in use; none of them is told again. */
  readonly bad_count: number
  /** The newest of them. */
  readonly bad: readonly BadEntryReport[]
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

interface BadEntryReport {
  readonly feed?: string
  readonly path?: string
  readonly nar_hash: string
  /** CID that the feed told. */
  readonly told: string
  /** CID that the NAR has; absent when the told one was seen to lead to other bytes. */
  readonly computed?: string
  readonly found_at: string
}

export interface BlocksReport {
  /** By all sources of blocks. */
  readonly got: WireReport
  /** To peers, over HTTP. */
  readonly given: WireReport
}

interface WireCounts {
  readonly bytes: number
  /** What those were on the wire: fewer when leaves went coded. */
  readonly wire_bytes: number
}

interface WireReport extends WireCounts {
  /** Of them those that went as the difference from an older block; absent where there were none. */
  readonly by_difference?: WireCounts
}

/** Bytes of the NARs that were put together since `started`, as they are and not as they were packed. */
export interface FetchedReport {
  readonly bytes: number
  readonly from_upstreams: number
  /** What upstreams did not have to send. */
  readonly saved: number
  /** What nobody had to send: made of older paths, or out of other NARs that are here. */
  readonly made_here: number
  readonly from_neighbours: number
  /** Blocks and whole NARs together. */
  readonly neighbours: readonly { readonly id: string; readonly bytes: number }[]
}

/** NARs since `started`, by where their bytes came from; those of which there were none are left out. */
export interface NarsReport {
  readonly source: SourceKind
  /** Each counted where most of it came from. Those of `spool` and `store` went out as they lay here, as often as they were asked for. */
  readonly nars: number
  readonly bytes: number
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

export interface FeedsReport {
  readonly published: readonly PublishedFeed[]
  readonly followed: readonly FollowedFeed[]
}

export interface PublishedFeed {
  readonly name: string
  readonly origin: string
  /** Entries. */
  readonly size: number
  /** Base64, as in the checkpoint. */
  readonly root_hash: string
  /** Last heartbeat, RFC 3339. */
  readonly signed_at: string
  /** What followers pin beside the name. */
  readonly root_keys: readonly string[]
  readonly root_version: number
  readonly expires: string
}

export interface FollowedFeed {
  readonly name: string
  readonly root_key: string
  readonly state: FeedStatus['state']
  /** Entries accepted. */
  readonly size: number
  readonly root_hash?: string
  readonly signed_at?: string
  readonly expires?: string
  /** End of the last cycle of this process. */
  readonly synced_at?: string
  /** Of the last cycle. */
  readonly problems: readonly string[]
  /** Two heads that the log's key signed and that cannot both be true. */
  readonly fork?: {
    readonly ours: string
    readonly theirs: string
    readonly source: string
    readonly found_at: string
  }
}

export function describePublished(feed: PublisherStatus): PublishedFeed {
  return {
    name: feed.name,
    origin: feed.origin,
    size: feed.size,
    root_hash: feed.rootHash,
    signed_at: seconds(feed.signedAt),
    root_keys: feed.rootKeys,
    root_version: feed.rootVersion,
    expires: seconds(feed.expires),
  }
}

export function describeFollowed(feed: FeedStatus): FollowedFeed {
  const { fork } = feed
  return {
    name: feed.name,
    root_key: feed.rootKey,
    state: feed.state,
    size: feed.size,
    ...(feed.rootHash === undefined ? {} : { root_hash: feed.rootHash }),
    ...(feed.signedAt === undefined ? {} : { signed_at: seconds(feed.signedAt) }),
    ...(feed.expires === undefined ? {} : { expires: seconds(feed.expires) }),
    ...(feed.syncedAt === undefined ? {} : { synced_at: time(feed.syncedAt) }),
    problems: feed.problems,
    ...(fork === undefined
      ? {}
      : {
          fork: {
            ours: fork.ours,
            theirs: fork.theirs,
            source: fork.source,
            found_at: time(fork.foundAt),
          },
        }),
  }
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

function seconds(unix: number): string {
  return time(unix * 1000)
}

export function describeSources(scores: Scores): SourceStatus[] {
  // A root is no source; its ways have scores too.
  return [...scores.all()]
    .filter(([id]) => !id.startsWith('blocks:'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, score]) => ({
      id,
      bytes: score.bytes,
      ...(score.wireBytes === undefined ? {} : { wire_bytes: score.wireBytes }),
      ...describeDifferences(score.byDifference),
      ...(score.averageMs === undefined ? {} : { average_ms: Math.round(score.averageMs) }),
      faults: score.faults,
      lies: score.lies,
      out: !scores.usable(id),
    }))
}

export function describeBlocks(got: WireCount, given: WireCount): BlocksReport {
  return { got: describeWire(got), given: describeWire(given) }
}

function describeWire(count: WireCount): WireReport {
  const { bytes, wireBytes } = count.total()
  return { bytes, wire_bytes: wireBytes, ...describeDifferences(count.byDifference()) }
}

function describeDifferences({ bytes, wireBytes }: WireBytes): Pick<WireReport, 'by_difference'> {
  return bytes === 0 ? {} : { by_difference: { bytes, wire_bytes: wireBytes } }
}

export function describeNars({ byKind }: NarCounts): NarsReport[] {
  return SOURCE_KINDS.flatMap((source) => {
    const count = byKind.get(source)
    return count === undefined ? [] : [{ source, nars: count.nars, bytes: count.bytes }]
  })
}

export function describeFetched({ byKind, byNeighbour }: NarCounts): FetchedReport {
  const of = (kind: SourceKind): number => byKind.get(kind)?.bytes ?? 0
  const bytes = SOURCE_KINDS.reduce(
    (sum, kind) => (kind === 'spool' || kind === 'store' ? sum : sum + of(kind)),
    0,
  )
  return {
    bytes,
    from_upstreams: of('upstream'),
    saved: bytes - of('upstream'),
    made_here: of('rewritten') + of('local'),
    from_neighbours: of('neighbour'),
    neighbours: [...byNeighbour].map(([id, given]) => ({ id, bytes: given })),
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

export function describeBad(bad: BadEntry, storeDir: string): BadEntryReport {
  const { told, storePath, narHash, cid, computed, markedAt } = bad
  return {
    ...(told === undefined ? {} : { feed: told.replace(/^feed:/, '') }),
    ...(storePath === undefined ? {} : { path: `${storeDir}/${storePath}` }),
    nar_hash: `sha256:${narHash}`,
    told: cid,
    ...(computed === undefined ? {} : { computed }),
    found_at: time(markedAt),
  }
}

/** RFC 3339, to the second. */
export function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}
