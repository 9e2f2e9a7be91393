/** What a serving narswarm does by itself, until its signal says stop. No loop ever throws. */
import timers from 'node:timers/promises'
import type { Follower } from '../feed/follower.ts'
import type { Publisher as FeedPublisher } from '../feed/publisher.ts'
import {
  AUDIT_PAUSE_MS,
  FEED_HEARTBEAT_MS,
  FEED_SYNC_MS,
  FEED_SYNC_RETRY_MS,
  NARINFO_PRUNE_MS,
  NARINFO_PRUNE_NEXT_MS,
  SHARE_REVIEW_PAUSE_MS,
  UPSTREAM_INFO_FRESH_MS,
  UPSTREAM_INFO_RETRY_MS,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { ShareReview } from '../publish/share-review.ts'
import { SourceRestingError } from '../source.ts'
import type { SpoolKeeper } from '../spool/keeper.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { Auditor } from './auditor.ts'
import type { StoreIndexer } from './store-indexer.ts'

/** Follows the feeds; one that was never reached is tried again sooner. */
export async function keepFollowing(follower: Follower, log: Log, signal: AbortSignal): Promise<void> {
  await repeat(log, signal, 'following the feeds', async () => {
    await follower.sync({ signal })
    return follower.status().some(({ state }) => state === 'never-synced') ? FEED_SYNC_RETRY_MS : FEED_SYNC_MS
  })
}

/**
 * Reads what an upstream says of itself: early, since it would otherwise show as misses, and again until it can be used.
 * A login page of a hotel must not put a cache out for good.
 */
export async function keepChecking(upstream: Upstream, log: Log, signal: AbortSignal): Promise<void> {
  let told: string | undefined
  await repeat(log, signal, 'asking an upstream what it is', async () => {
    try {
      await upstream.cacheInfo({ signal })
      told = undefined
      return UPSTREAM_INFO_FRESH_MS
    } catch (error) {
      const reason = messageOf(error)
      // A host that is left alone was told about when that began.
      if (!signal.aborted && reason !== told && !(error instanceof SourceRestingError)) {
        told = reason
        log.warn({ source: upstream.id }, reason)
      }
      return UPSTREAM_INFO_RETRY_MS
    }
  })
}

/** Says from time to time that the heads of our own feeds still stand. */
export async function keepSigning(
  feeds: ReadonlyMap<string, FeedPublisher>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  await repeat(log, signal, 'signing the heads of the feeds', async () => {
    for (const feed of feeds.values()) await feed.heartbeat({ signal })
    return FEED_HEARTBEAT_MS
  })
}

/** Forgets narinfos that Nix cannot hold us to any more. */
export async function keepPruning(
  table: Pick<NarInfoTable, 'prune'>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  await repeat(log, signal, 'pruning the narinfos', () =>
    Promise.resolve(table.prune() ? NARINFO_PRUNE_NEXT_MS : NARINFO_PRUNE_MS),
  )
}

/** Removes from the spool what Nix has by now, and what there is no room for. */
export async function keepTidy(keeper: SpoolKeeper, log: Log, signal: AbortSignal): Promise<void> {
  await repeat(log, signal, 'tidying the spool', () => keeper.turn({ signal }))
}

/** Looks at entries of followed feeds, picked at random, within the daily budget. */
export async function keepAuditing(auditor: Auditor, log: Log, signal: AbortSignal): Promise<void> {
  await repeat(log, signal, 'auditing the feeds', async () => {
    await auditor.turn({ signal })
    return AUDIT_PAUSE_MS
  })
}

/** Puts into the index what others may have of the Nix store. */
export async function keepIndexing(indexer: StoreIndexer, log: Log, signal: AbortSignal): Promise<void> {
  await repeat(log, signal, 'indexing the store', () => indexer.turn({ signal }))
}

/** Decides what others may have, after the rule for it has changed; ends when that is done. */
export async function keepReviewing(review: ShareReview, log: Log, signal: AbortSignal): Promise<void> {
  await repeat(log, signal, 'reviewing what is shared', () =>
    Promise.resolve(review.turn() ? SHARE_REVIEW_PAUSE_MS : undefined),
  )
}

/** @param turn its pause after it, milliseconds; undefined ends it */
async function repeat(
  log: Log,
  signal: AbortSignal,
  what: string,
  turn: () => Promise<number | undefined>,
): Promise<void> {
  while (!signal.aborted) {
    let pauseMs: number | undefined = FEED_SYNC_MS
    try {
      pauseMs = await turn()
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, `${what} failed: ${String(error)}`)
    }
    if (pauseMs === undefined) return
    await timers.setTimeout(pauseMs, undefined, { signal, ref: false }).catch(() => {})
  }
}
