/**
 * What the doors (admin socket, command line, status page) can ask of a running narswarm. `createOperations` does it in
 * this process; the command line's client asks for the same over the admin socket.
 */
import type { FeedName } from '../feed/feed-name.ts'
import type { PublishItem } from '../publish/publish.ts'
import type { CallOptions } from '../source.ts'
import type { SpoolCheck } from '../spool/check.ts'
import type { GcReport, GcRequest } from '../spool/keeper.ts'
import type { AuditOutcome } from './audit-memory.ts'
import type { ExplainReport } from './explain.ts'
import type { PeerChange, PeersReport } from './peers.ts'
import type { FeedsReport } from './feeds-report.ts'
import type { StatusDocument } from './status.ts'

export interface PublishRequest {
  /** Name of a feed that this machine publishes. */
  readonly feed: string
  /** Says what would be published, and reads no NAR. */
  readonly dryRun: boolean
  /** URL or folder of a binary cache; absent: the local store. */
  readonly from?: string
  /** Store paths, or for a cache also hash parts; none: all that the cache's folder has. Closures are added. */
  readonly paths: readonly string[]
}

export type PublishEvent =
  | ({ readonly kind: 'item' } & PublishItem)
  | { readonly kind: 'done'; readonly feed: string; readonly added: number; readonly size: number }

export interface VerifyReport {
  readonly path: string
  readonly narHash: string
  readonly narSize: number
  /** Names of the trusted keys that signed it. */
  readonly keys: readonly string[]
  /** Root of its DAG, computed anew. */
  readonly cid: string
  /** The CID that was told, when it is another than the one computed: evidence against who told it. */
  readonly wrongCid?: string
}

export interface AuditRequest {
  /** Name of a feed that is followed. */
  readonly feed: string
  /** So many entries picked at random, or all. */
  readonly sample: number | 'all'
}

/** An entry of a followed feed that was looked at. */
export interface AuditedEntry {
  readonly feed: FeedName
  /** In the tree of the feed. */
  readonly position: number
  readonly path: string
  readonly narHash: string
  readonly narSize: number
  /** The CID that the entry tells. */
  readonly told: string
  readonly outcome: AuditOutcome
  /** The CID of the NAR, when the told one is wrong and the NAR was seen. */
  readonly computed?: string
  readonly reason?: string
  /** From the network. */
  readonly fetchedBytes: number
}

export type AuditEvent =
  | ({ readonly kind: 'item' } & AuditedEntry)
  | ({ readonly kind: 'done'; readonly feed: string; readonly fetchedBytes: number } & Readonly<
      Record<AuditOutcome, number>
    >)

/** The path is not what was signed, or nobody trusted signed it. Exit code 3. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError'
}

/** What was asked makes no sense here: unknown feed, no such path, a name taken. Exit code 1, HTTP 400. */
export class RequestError extends Error {
  override readonly name = 'RequestError'
}

export interface Operations {
  status(options: CallOptions): Promise<StatusDocument>
  feeds(options: CallOptions): Promise<FeedsReport>
  /** @throws RequestError */
  createFeed(name: string, options: CallOptions): Promise<{ name: string; rootKey: string }>
  /** @throws RequestError; PublishError when bytes are not what their narinfo says */
  publish(request: PublishRequest, options: CallOptions): AsyncIterable<PublishEvent>
  /**
   * Gets the NAR of a store path (or hash part) and hashes it anew, wherever it lies.
   *
   * @throws RequestError when no source knows it, VerificationError
   */
  verify(path: string, options: CallOptions): Promise<VerifyReport>
  /**
   * Says what is known of a store path (or hash part), and what would be done if Nix asked for it now. Fetches no NAR.
   *
   * @throws RequestError for what is no path
   */
  explain(path: string, options: CallOptions): Promise<ExplainReport>
  /** Hashes all whole NARs of the spool anew; what is wrong is removed, and named. */
  verifySpool(options: CallOptions): Promise<SpoolCheck>
  /**
   * Audits entries of a followed feed now, beside the daily budget: fetches each NAR, and proves or disproves the CID told.
   *
   * @throws RequestError when nothing of the feed is here
   */
  verifyFeed(request: AuditRequest, options: CallOptions): AsyncIterable<AuditEvent>
  gc(request: GcRequest, options: CallOptions): Promise<GcReport>
  peers(options: CallOptions): Promise<PeersReport>
  /** @throws RequestError @returns its id */
  changePeer(change: PeerChange, options: CallOptions): Promise<{ id: string }>
}
