/**
 * The document of `narswarm status --json` and `/api/v1/status`. Written out field by field, so that nothing of the
 * configuration can leak into it by being added there. New fields may come; `version` changes when one goes.
 */
import type { FeedStatus } from '../feed/follower.ts'
import type { PublisherStatus } from '../feed/publisher.ts'

export interface SourceStatus {
  readonly id: string
  readonly bytes: number
  /** Average of a block, milliseconds; absent before the first. */
  readonly average_ms?: number
  readonly faults: number
  readonly lies: number
  /** Left alone for now. */
  readonly out: boolean
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
  readonly upstreams: readonly string[]
  readonly peers: readonly string[]
  readonly spool: { readonly nars: number; readonly bytes: number }
  readonly transfers: { readonly running: number }
  readonly sources: readonly SourceStatus[]
  readonly feeds: FeedsReport
}

export interface FeedsReport {
  readonly published: readonly PublisherStatus[]
  readonly followed: readonly FeedStatus[]
}
