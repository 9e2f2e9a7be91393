/** Feeds of others: kept in SQLite, asked like any source of narinfos, served again as they came. */
import type { DatabaseSync } from 'node:sqlite'
import type { CID } from 'multiformats/cid'
import { FEED_SOFTWARE_DATE_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import { encodeBase64 } from '../nix/base64.ts'
import type { NarHash } from '../nix/hash.ts'
import { plainNarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import { COST, type CallOptions, type NarInfoCandidate, type NarInfoSource } from '../source.ts'
import { formatBundle } from './bundle.ts'
import { parseEntry, type MappingEntry } from './entry.ts'
import { FeedFormatError } from './errors.ts'
import type { FeedFiles } from './feed-files.ts'
import { parseFeedName, type FeedName } from './feed-name.ts'
import { parseFeedPath } from './feed-path.ts'
import type { FeedSource } from './feed-source.ts'
import { createFeedStore, type BadEntry } from './feed-store.ts'
import { freshnessOf, type Freshness, type Times } from './freshness.ts'
import { TILE_WIDTH } from './merkle.ts'
import { openFirstRootDocument } from './root-document.ts'
import { syncFeed, type FeedSyncResult, type FollowedFeed } from './sync.ts'
import { formatVkey, parseVkey } from './vkey.ts'

type FeedState = Freshness | 'forked' | 'never-synced'

export interface FollowConfig {
  name: string
  /** Vkey of the feed's root key: together with the name all that a user trusts here. */
  rootKey: string
  /** Untrusted, in the order in which they are asked. */
  sources: readonly FeedSource[]
}

export interface FollowerDeps {
  /** With `synchronous=FULL`: what was accepted must outlive a power cut, or it could be rolled back. */
  db: DatabaseSync
  /** Milliseconds. */
  clock: () => number
  log: Log
  storeDir: string
}

/** What a feed said of a path; not yet believed. */
export type ToldMapping = NarInfoCandidate & { readonly cid: CID }

export interface Follower {
  /** One a feed, in their order: a wrong entry of one feed must not hide a right one of another. */
  sources(): readonly NarInfoSource[]
  /** Proven: the NAR has another root than this CID. No entry that says so is told again, also after a restart. */
  markBad(narHash: NarHash, cid: CID, evidence?: Pick<BadEntry, 'told' | 'storePath' | 'computed'>): void
  badEntry(narHash: NarHash, cid: CID): BadEntry | undefined
  /** What was marked, newest first, `limit` at most, and how much in all. */
  bad(limit: number): { entries: BadEntry[]; count: number }
  /** Entries accepted, of each feed. */
  sizes(): ReadonlyMap<FeedName, number>
  /** What a feed says at a position of its tree. Undefined when that is no mapping, or one that it has withdrawn since. */
  mappingAt(name: FeedName, index: number): ToldMapping | undefined
  /** One cycle over all feeds. @throws what the signal says, when it is aborted: what was accepted by then stays */
  sync(options: CallOptions): Promise<FeedSyncResult[]>
  status(): FeedStatus[]
  /** Each file exactly as its publisher has it. */
  readonly files: FeedFiles
}

export interface FeedStatus {
  name: FeedName
  rootKey: string
  state: FeedState
  /** Entries accepted. */
  size: number
  origin?: string
  /** Base64, as in the checkpoint. */
  rootHash?: string
  /** Unix seconds of the last accepted heartbeat. */
  signedAt?: number
  rootVersion?: number
  /** Unix seconds. */
  expires?: number
  maxAgeSeconds?: number
  /** Milliseconds; of this process. */
  syncedAt?: number
  /** Of the last cycle, newest last. */
  problems: string[]
  /** Two checkpoints that the log's key signed and that cannot both be true. */
  fork?: { ours: string; theirs: string; source: string; foundAt: number }
}

/** @throws FeedFormatError on a malformed name or key, or one feed twice */
export function createFollower(
  deps: FollowerDeps,
  config: { feeds: readonly FollowConfig[]; /** Milliseconds. */ builtAt?: number },
): Follower {
  const { clock, log, storeDir } = deps
  const builtAt = config.builtAt ?? FEED_SOFTWARE_DATE_MS
  const store = createFeedStore(deps.db)
  const feeds = config.feeds.map(({ name, rootKey, sources }) => {
    const feed: FollowedFeed = { name: parseFeedName(name), rootKey: parseVkey(rootKey), sources }
    const stored = store.load(feed.name, formatVkey(feed.rootKey))
    return stored === undefined ? feed : { ...feed, stored, doc: openFirstRootDocument(stored.root, feed) }
  })
  const byName = new Map<string, FollowedFeed>(feeds.map((feed) => [feed.name, feed]))
  if (byName.size < feeds.length) throw new FeedFormatError('feeds to follow: one name twice')
  const lastCycles = new Map<FeedName, { at: number; problems: string[] }>()
  let last: Promise<unknown> = Promise.resolve()

  function timesOf(feed: FollowedFeed): Times {
    const wall = clock()
    return { wall, now: Math.max(wall, (feed.stored?.timeFloor ?? 0) * 1000), builtAt }
  }

  async function syncAll(options: CallOptions): Promise<FeedSyncResult[]> {
    const cycles = feeds.map(async (feed) => {
      const result = await syncFeed(feed, { store, storeDir, log, times: timesOf(feed) }, options)
      lastCycles.set(feed.name, { at: clock(), problems: result.problems })
      return result
    })
    // All must have ended before the next cycle may begin, also when one of them was aborted.
    await Promise.allSettled(cycles)
    return Promise.all(cycles)
  }

  /** The newest mapping that its feed has not withdrawn since, and that has not been proven wrong. */
  function lookup(feed: FollowedFeed, hashPart: HashPart): NarInfoCandidate | undefined {
    const { stored } = feed
    if (stored?.head === undefined) return undefined
    const withdrawn = new Set<NarHash>()
    for (const bytes of store.entriesAbout(stored.id, stored.head.size, hashPart)) {
      const entry = parseEntry(bytes, storeDir)
      if (entry.kind === 'withdrawal') withdrawn.add(entry.narHash)
      if (entry.kind !== 'mapping' || withdrawn.has(entry.narHash)) continue
      if (store.badEntry(entry.narHash, entry.cid.toString()) === undefined)
        return candidateOf(entry, feed.name)
    }
    return undefined
  }

  function mappingAt(feed: FollowedFeed, index: number): ToldMapping | undefined {
    const { stored } = feed
    if (stored?.head === undefined || index >= stored.head.size) return undefined
    const [bytes] = store.entries(stored.id, index, index + 1)
    const entry = bytes === undefined ? undefined : parseEntry(bytes, storeDir)
    if (entry?.kind !== 'mapping') return undefined
    for (const newer of store.entriesAbout(stored.id, stored.head.size, hashPartOf(entry.storePath))) {
      // The same again puts it in force again.
      if (Buffer.compare(newer, bytes ?? newer) === 0) break
      const other = parseEntry(newer, storeDir)
      if (other.kind === 'withdrawal' && other.narHash === entry.narHash) return undefined
    }
    return candidateOf(entry, feed.name)
  }

  function stateOf(feed: FollowedFeed): FeedState {
    if (feed.stored?.fork !== undefined) return 'forked'
    if (feed.doc === undefined || feed.stored?.head === undefined) return 'never-synced'
    return freshnessOf(feed.doc, feed.stored.head.time, timesOf(feed))
  }

  function readFile({ stored, doc }: FollowedFeed, path: string): Uint8Array | undefined {
    const file = parseFeedPath(path)
    if (file === undefined || stored === undefined || doc === undefined) return undefined
    if (file.kind === 'root') return file.version === doc.version ? stored.root : undefined
    if (file.epoch !== doc.epoch || stored.head === undefined) return undefined
    if (file.kind === 'checkpoint') return stored.head.checkpoint
    const from = file.n * TILE_WIDTH
    const to = from + file.width
    const span = file.kind === 'entries' ? 1 : TILE_WIDTH ** file.level
    // What is staged behind the head is nobody's business.
    if (to * span > stored.head.size) return undefined
    return file.kind === 'entries'
      ? formatBundle(store.entries(stored.id, from, to))
      : Buffer.concat(store.tileHashes(stored.id, file.level, from, to))
  }

  return {
    sources: () =>
      feeds.map((feed) => ({
        id: `feed:${feed.name}`,
        cost: COST.local,
        async lookup(hashPart: HashPart) {
          return lookup(feed, hashPart)
        },
      })),
    markBad(narHash, cid, evidence = {}) {
      store.markBad({ narHash, cid: cid.toString(), markedAt: clock(), ...evidence })
    },
    badEntry: (narHash, cid) => store.badEntry(narHash, cid.toString()),
    bad: (limit) => ({ entries: store.bad(limit), count: store.badCount() }),
    sizes: () => new Map(feeds.map(({ name, stored }) => [name, stored?.head?.size ?? 0])),
    mappingAt(name, index) {
      const feed = byName.get(name)
      return feed === undefined ? undefined : mappingAt(feed, index)
    },
    sync(options) {
      // Two cycles at once would stage the same entries twice.
      const turn = last.then(() => syncAll(options))
      last = turn.catch(() => undefined)
      return turn
    },
    status: () => feeds.map((feed) => describe(feed, stateOf(feed), lastCycles.get(feed.name))),
    files: {
      async read(name, path) {
        const feed = byName.get(name)
        return feed === undefined ? undefined : readFile(feed, path)
      },
    },
  }
}

function candidateOf(entry: MappingEntry, name: FeedName): ToldMapping {
  const { cid } = entry
  return { info: { ...plainNarInfo(entry), cid: cid.toString() }, from: `feed:${name}`, cid }
}

function describe(
  { name, rootKey, stored, doc }: FollowedFeed,
  state: FeedState,
  cycle: { at: number; problems: string[] } | undefined,
): FeedStatus {
  const status: FeedStatus = {
    name,
    rootKey: formatVkey(rootKey),
    state,
    size: stored?.head?.size ?? 0,
    problems: [...(cycle?.problems ?? [])],
  }
  if (doc !== undefined) {
    Object.assign(status, { rootVersion: doc.version, expires: doc.expires, maxAgeSeconds: doc.maxAge })
  }
  if (stored?.head !== undefined) {
    const { origin, rootHash, time } = stored.head
    Object.assign(status, { origin, rootHash: encodeBase64(rootHash), signedAt: time })
  }
  if (cycle !== undefined) status.syncedAt = cycle.at
  if (stored?.fork !== undefined) {
    const { ours, theirs, source, foundAt } = stored.fork
    status.fork = { ours: noteText(ours), theirs: noteText(theirs), source, foundAt }
  }
  return status
}

function noteText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8')
}
