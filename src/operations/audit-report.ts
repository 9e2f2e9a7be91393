/** What the status document says of audits. */
import type { BadEntry } from '../feed/feed-store.ts'
import { time } from './rfc3339.ts'

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
