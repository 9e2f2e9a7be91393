/**
 * One feed's update, "Consumer update, full sync" of [security 2.2]. Everything that sources give is checked against
 * the pinned root key and against what was accepted before; a source that fails or lies costs a line in the log.
 */
import { FEED_CLOCK_SKEW_MS, FEED_NOTE_MAX_BYTES } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { hashPartOf } from '../nix/store-path.ts'
import { SourceMissError, type CallOptions } from '../source.ts'
import { openCheckpoint, type SignedCheckpoint } from './checkpoint.ts'
import { parseEntry } from './entry.ts'
import { FeedFormatError, FeedRefusedError } from './errors.ts'
import type { FeedName } from './feed-name.ts'
import { fetchEntries, fetchFeedFile, type FeedSource } from './feed-source.ts'
import type { FeedStore, StagedEntry, StoredFeed, Subtree } from './feed-store.ts'
import { judgeTime, type Times } from './freshness.ts'
import { createCompactRange, leafHash } from './merkle.ts'
import { checkSuccessor, openFirstRootDocument, type RootDocument } from './root-document.ts'
import { formatVkey, type FeedPublicKey } from './vkey.ts'

/** A feed that is followed, with what is known of it. `sync` replaces `stored` and `doc`; nobody else does. */
export interface FollowedFeed {
  readonly name: FeedName
  readonly rootKey: FeedPublicKey
  readonly sources: readonly FeedSource[]
  stored?: StoredFeed
  doc?: RootDocument
}

export interface SyncDeps {
  readonly store: FeedStore
  readonly storeDir: string
  readonly log: Log
  /** Fixed once a cycle. */
  readonly times: Times
}

export interface FeedSyncResult {
  name: FeedName
  /** `current`: the sources have nothing newer than what is here. */
  outcome: 'updated' | 'current' | 'failed' | 'forked'
  newEntries: number
  size: number
  /** What went wrong, with whom; also where another source then did it. */
  problems: string[]
}

/** A head that is signed as it must be, and who showed it. */
interface Told {
  readonly head: SignedCheckpoint
  readonly source: FeedSource
}

/** Ends the cycle of this feed: no other source can mend it. */
class FeedStoppedError extends Error {
  override readonly name = 'FeedStoppedError'
}

/** @throws what the signal says, when it is aborted: nothing else */
export async function syncFeed(
  feed: FollowedFeed,
  deps: SyncDeps,
  options: CallOptions,
): Promise<FeedSyncResult> {
  const problems: string[] = []
  const sizeBefore = feed.stored?.head?.size ?? 0
  const result = (outcome: FeedSyncResult['outcome']): FeedSyncResult => {
    const size = feed.stored?.head?.size ?? 0
    return { name: feed.name, outcome, newEntries: size - sizeBefore, size, problems }
  }
  const blame = (source: FeedSource, error: unknown) => {
    options.signal.throwIfAborted()
    const reason = messageOf(error)
    problems.push(`${source.id}: ${reason}`)
    deps.log.warn(
      { feed: feed.name, source: source.id, reason },
      'a source of a feed failed or lied; trying the next',
    )
  }
  try {
    if (feed.stored?.fork !== undefined) throw new FeedStoppedError('its log has forked')
    const { doc, stored } = await findRoot(feed, deps, blame, options)
    await checkRotation(feed, stored, doc, deps, options)
    judgeTime(doc, undefined, deps.times)

    const told = await askHeads(feed, doc, blame, options)
    stopOnFork(feed, stored, told, deps)
    const outcome = await takeNewest(feed, stored, doc, told, deps, blame, options)
    // What was ahead of us then may now be compared.
    stopOnFork(feed, feed.stored ?? stored, told, deps)
    return result(outcome)
  } catch (error) {
    options.signal.throwIfAborted()
    problems.push(messageOf(error))
    deps.log.warn({ feed: feed.name, reason: messageOf(error) }, 'learned nothing new from a feed')
    return result(feed.stored?.fork === undefined ? 'failed' : 'forked')
  }
}

type Blame = (source: FeedSource, error: unknown) => void

/** The stored root document, or the first source's that the pinned key has signed. */
async function findRoot(
  feed: FollowedFeed,
  { store, log }: SyncDeps,
  blame: Blame,
  options: CallOptions,
): Promise<{ doc: RootDocument; stored: StoredFeed }> {
  if (feed.doc !== undefined && feed.stored !== undefined) return { doc: feed.doc, stored: feed.stored }
  for (const source of feed.sources) {
    try {
      const bytes = await fetchFeedFile(source, { kind: 'root', version: 1 }, FEED_NOTE_MAX_BYTES, options)
      if (bytes === undefined) throw new SourceMissError(source.id, 'root/1 is not there')
      const doc = openFirstRootDocument(bytes, feed)
      const stored = store.create(feed.name, formatVkey(feed.rootKey), bytes)
      feed.doc = doc
      feed.stored = stored
      log.info({ feed: feed.name, source: source.id }, 'following a feed from its root document on')
      return { doc, stored }
    } catch (error) {
      blame(source, error)
    }
  }
  throw new FeedStoppedError('no source has a root document that the pinned key signed')
}

/** A valid next root document may take away the very key that signs heads, so it must not be passed over. */
async function checkRotation(
  feed: FollowedFeed,
  stored: StoredFeed,
  doc: RootDocument,
  { store, log }: SyncDeps,
  options: CallOptions,
): Promise<void> {
  const stop = () =>
    new FeedStoppedError(
      `root document version ${doc.version + 1} is out, and rotation is not supported by this version: update narswarm`,
    )
  if (stored.successor !== undefined) throw stop()
  const path = { kind: 'root', version: doc.version + 1 } as const
  const answers = await Promise.all(
    feed.sources.map((source) =>
      fetchFeedFile(source, path, FEED_NOTE_MAX_BYTES, options).catch(() => undefined),
    ),
  )
  for (const [at, bytes] of answers.entries()) {
    if (bytes === undefined) continue
    try {
      checkSuccessor(bytes, doc)
    } catch (error) {
      const fields = { feed: feed.name, source: feed.sources[at]?.id, reason: messageOf(error) }
      log.warn(fields, 'a source of a feed shows a next root document that is none')
      continue
    }
    store.saveSuccessor(stored.id, bytes)
    feed.stored = { ...stored, successor: bytes }
    throw stop()
  }
}

async function askHeads(
  feed: FollowedFeed,
  doc: RootDocument,
  blame: Blame,
  options: CallOptions,
): Promise<Told[]> {
  const path = { kind: 'checkpoint', epoch: doc.epoch } as const
  const answers = await Promise.all(
    feed.sources.map(async (source): Promise<Told | undefined> => {
      try {
        const bytes = await fetchFeedFile(source, path, FEED_NOTE_MAX_BYTES, options)
        if (bytes === undefined) throw new SourceMissError(source.id, 'no checkpoint')
        return { head: openCheckpoint(bytes, doc), source }
      } catch (error) {
        blame(source, error)
        return undefined
      }
    }),
  )
  const told = answers.filter((answer) => answer !== undefined)
  if (told.length === 0) throw new FeedStoppedError('no source has a head that verifies')
  return told.sort((a, b) => b.head.size - a.head.size || b.head.time - a.head.time)
}

/**
 * Compares every head with what we have, and with each other. Their signatures hold, so a difference is the log's own
 * doing, whoever showed it.
 */
function stopOnFork(
  feed: FollowedFeed,
  stored: StoredFeed,
  told: readonly Told[],
  { store, log, times }: SyncDeps,
): void {
  const bySize = new Map<number, SignedCheckpoint>()
  for (const { head, source } of told) {
    const other = otherHistory(head, stored, bySize.get(head.size), store)
    bySize.set(head.size, head)
    if (other === undefined) continue
    const fork = { ours: other, theirs: head.bytes, source: source.id, foundAt: times.wall }
    store.saveFork(stored.id, fork)
    feed.stored = { ...stored, fork }
    log.error(
      { feed: feed.name, source: source.id, size: head.size },
      'the log of a feed has forked: its publisher signed two histories; nothing more is learned from it',
    )
    throw new FeedStoppedError(`its log has forked at size ${head.size}`)
  }
}

/** The checkpoint that `head` cannot be true beside. */
function otherHistory(
  head: SignedCheckpoint,
  stored: StoredFeed,
  sameSize: SignedCheckpoint | undefined,
  store: FeedStore,
): Uint8Array | undefined {
  const differs = (rootHash: Uint8Array) => !Buffer.from(rootHash).equals(head.rootHash)
  if (sameSize !== undefined && differs(sameSize.rootHash)) return sameSize.bytes
  if (stored.head === undefined || head.size > stored.head.size) return undefined
  return differs(store.rootAt(stored.id, head.size)) ? stored.head.checkpoint : undefined
}

/** Tries the heads that say more than what we have, the largest first, each from all sources that may have its entries. */
async function takeNewest(
  feed: FollowedFeed,
  stored: StoredFeed,
  doc: RootDocument,
  told: readonly Told[],
  deps: SyncDeps,
  blame: Blame,
  options: CallOptions,
): Promise<'updated' | 'current'> {
  const known = stored.head
  const newer = told.filter(
    ({ head }) =>
      known === undefined || head.size > known.size || (head.size === known.size && head.time > known.time),
  )
  for (const { head, source } of newer) {
    try {
      judgeHead(head, known?.size ?? 0, doc, deps.times)
    } catch (error) {
      blame(source, error)
      continue
    }
    for (const from of [source, ...feed.sources.filter((other) => other !== source)]) {
      try {
        feed.stored = await takeHead(stored, doc, head, from, deps, options)
        return 'updated'
      } catch (error) {
        blame(from, error)
      }
    }
  }
  if (newer.length > 0) throw new FeedStoppedError('no source has a newer head that can be accepted')
  return 'current'
}

function judgeHead(head: SignedCheckpoint, knownSize: number, doc: RootDocument, times: Times): void {
  if (head.size > knownSize + doc.maxGrowth) {
    throw new FeedRefusedError(
      `checkpoint: expected at most ${knownSize} + ${doc.maxGrowth} entries, got ${head.size}`,
    )
  }
  judgeTime(doc, head.time, times)
}

/** Fetches what is between the stored head and `head`, and accepts both when the root hash comes out. */
async function takeHead(
  stored: StoredFeed,
  doc: RootDocument,
  head: SignedCheckpoint,
  source: FeedSource,
  { store, storeDir, times }: SyncDeps,
  options: CallOptions,
): Promise<StoredFeed> {
  const known = stored.head
  const from = known?.size ?? 0
  let subtrees: Subtree[] = []
  const start = known === undefined ? undefined : { size: from, hashes: known.range }
  const range = createCompactRange(start, (level, n, hash) => subtrees.push({ level, n, hash }))
  // Also what a crash has left.
  store.unstage(stored.id, from)
  try {
    const wanted = { epoch: doc.epoch, from, to: head.size }
    for await (const bundle of fetchEntries(source, wanted, options)) {
      const index = range.size
      const staged = bundle.map((bytes, at) => stagedEntry(bytes, index + at, storeDir))
      for (const bytes of bundle) range.append(leafHash(bytes))
      store.stage(stored.id, index, staged, subtrees)
      subtrees = []
    }
    options.signal.throwIfAborted()
    const root = range.root()
    if (!Buffer.from(root).equals(head.rootHash)) {
      const [expected, got] = [head.rootHash, root].map((hash) => Buffer.from(hash).toString('base64'))
      throw new FeedRefusedError(`${head.size} entries: expected root hash ${expected}, got ${got}`)
    }
    const accepted = {
      origin: head.origin,
      size: head.size,
      rootHash: head.rootHash,
      range: [...range.hashes],
      checkpoint: head.bytes,
      time: head.time,
    }
    // A clock that is known to be wrong must not raise the floor.
    const inReach = head.time * 1000 <= times.wall + FEED_CLOCK_SKEW_MS
    const timeFloor = inReach ? Math.max(stored.timeFloor, head.time) : stored.timeFloor
    store.accept(stored.id, accepted, timeFloor)
    return { ...stored, head: accepted, timeFloor }
  } catch (error) {
    store.unstage(stored.id, from)
    throw error
  }
}

function stagedEntry(bytes: Uint8Array, index: number, storeDir: string): StagedEntry {
  try {
    const entry = parseEntry(bytes, storeDir)
    if (entry.kind === 'mapping') return { bytes, hashPart: hashPartOf(entry.storePath) }
    return entry.kind === 'withdrawal' ? { bytes, hashPart: entry.hashPart } : { bytes }
  } catch (cause) {
    throw new FeedFormatError(`entry ${index} of the log: ${messageOf(cause)}`, { cause })
  }
}
