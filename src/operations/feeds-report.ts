/** What `feed status` and the status document say of the feeds published and followed here. */
import type { FeedStatus } from '../feed/follower.ts'
import type { PublisherStatus } from '../feed/publisher.ts'
import { time } from './rfc3339.ts'

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

function seconds(unix: number): string {
  return time(unix * 1000)
}
