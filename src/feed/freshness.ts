/** What time says about a feed: whether it is fresh, never what is in it [security 2.2]. */
import { FEED_CLOCK_SKEW_MS } from '../limits.ts'
import { FeedRefusedError } from './errors.ts'
import type { RootDocument } from './root-document.ts'

export type Freshness = 'fresh' | 'stale' | 'expired' | 'clock-wrong'

/** Milliseconds. */
export interface Times {
  readonly wall: number
  /** The wall clock, but not before the greatest time that was ever accepted. */
  readonly now: number
  /** When this software was made: a clock before that is wrong, and judges nothing. */
  readonly builtAt: number
}

/** A feed is stale for this many times its max-age, before it is expired. */
const STALE_FACTOR = 7

/** @param time of the heartbeat in Unix seconds, or undefined for the root document alone */
export function freshnessOf(doc: RootDocument, time: number | undefined, times: Times): Freshness {
  if (times.wall < times.builtAt) return 'clock-wrong'
  if (times.now >= doc.expires * 1000) return 'expired'
  if (time === undefined) return 'fresh'
  const age = times.now - time * 1000
  if (age <= doc.maxAge * 1000) return 'fresh'
  return age <= STALE_FACTOR * doc.maxAge * 1000 ? 'stale' : 'expired'
}

/**
 * Whether something new may be learned.
 *
 * @throws FeedRefusedError
 */
export function judgeTime(doc: RootDocument, time: number | undefined, times: Times): void {
  const freshness = freshnessOf(doc, time, times)
  if (freshness === 'clock-wrong') return
  if (time !== undefined && time * 1000 > times.wall + FEED_CLOCK_SKEW_MS) {
    throw new FeedRefusedError(
      `checkpoint: its time ${isoTime(time)} is in the future (it is ${isoTime(times.wall / 1000)})`,
    )
  }
  if (freshness !== 'expired') return
  if (times.now >= doc.expires * 1000) {
    throw new FeedRefusedError(`root document: expired on ${isoTime(doc.expires)}`)
  }
  throw new FeedRefusedError(
    `checkpoint: expected a heartbeat of the last ${STALE_FACTOR * doc.maxAge} s, got one of ${isoTime(time ?? 0)}`,
  )
}

/** Beyond year 275760 there is no date. */
function isoTime(seconds: number): string {
  const date = new Date(seconds * 1000)
  return Number.isNaN(date.getTime()) ? `${seconds} s` : date.toISOString()
}
