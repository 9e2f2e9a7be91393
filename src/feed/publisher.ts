/** The one writer of a feed: appends entries, and says from time to time that the head is still the head. */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import type { Log } from '../log.ts'
import { encodeBase64 } from '../nix/base64.ts'
import type { CallOptions } from '../source.ts'
import { openCheckpoint, signCheckpoint, type SignedCheckpoint } from './checkpoint.ts'
import { writeDurably, type WriteFile } from './durable-file.ts'
import { EntryTooLargeError, formatEntry, type Entry } from './entry.ts'
import { PublisherStateError } from './errors.ts'
import { readFileIfAny } from './feed-files.ts'
import { originOf, type FeedName } from './feed-name.ts'
import { formatFeedPath } from './feed-path.ts'
import { keyFilePath, writeKeyFile } from './key-file.ts'
import type { LogFiles } from './log-files.ts'
import { leafHash } from './merkle.ts'
import {
  readLog,
  readOwnKey,
  readOwnRoot,
  shortLeaf,
  subjectOf,
  type FeedPlace,
  type LogState,
} from './publisher-state.ts'
import { signRootDocument, type RootDocument } from './root-document.ts'
import { COSIGNER_KEY, formatVkey, generateFeedKey, LOG_KEY } from './vkey.ts'

export interface PublisherDeps {
  /** Milliseconds. */
  clock: () => number
  log: Log
  writeFile?: WriteFile
}

export interface NewFeed extends FeedPlace {
  /** Seconds for which a heartbeat counts as fresh; 48 h unless said. */
  maxAgeSeconds?: number
  /** Seconds until the root document expires; five years unless said, since keys cannot be changed yet. */
  lifetimeSeconds?: number
}

export interface Publisher {
  readonly name: FeedName
  readonly size: number
  /**
   * Adds entries and signs the new head, once, at the end: after a crash or an abort the old head stands. An entry that
   * equals the latest one of its store path is skipped; one that is too large is left out with a warning.
   *
   * @throws FeedFormatError when an entry has no canonical form
   */
  append(entries: Iterable<Entry> | AsyncIterable<Entry>, options: CallOptions): Promise<AppendResult>
  /** Signs the same head at the present time. */
  heartbeat(options: CallOptions): Promise<void>
  status(): PublisherStatus
}

interface AppendResult {
  appended: number
  skipped: number
  tooLarge: number
  /** Entries in the feed now. */
  size: number
}

export interface PublisherStatus {
  name: FeedName
  origin: string
  size: number
  /** Base64, as in the checkpoint. */
  rootHash: string
  /** Unix seconds of the last heartbeat. */
  signedAt: number
  /** What followers pin beside the name. */
  rootKeys: string[]
  rootVersion: number
  /** Unix seconds. */
  expires: number
  maxAgeSeconds: number
}

const FIRST_EPOCH = 1
const MAX_AGE_SECONDS = 48 * 3600
const LIFETIME_SECONDS = 5 * 365 * 24 * 3600
const MAX_GROWTH = 2_000_000

/**
 * Makes the keys, root document version 1 and the head of the empty log.
 *
 * @returns the vkey of the root key, for followers to pin
 * @throws FeedKeyError when there are keys of that name already
 * @throws PublisherStateError when there is a feed in the folder already
 */
export async function createFeed(
  config: NewFeed,
  deps: PublisherDeps & { randomBytes: (n: number) => Uint8Array },
): Promise<{ rootKey: string }> {
  const { name, dir, keysDir } = config
  const writeFile = deps.writeFile ?? writeDurably
  const rootPath = join(dir, formatFeedPath({ kind: 'root', version: 1 }))
  if ((await readFileIfAny(rootPath)) !== undefined) {
    throw new PublisherStateError(`${dir}: there is a feed already`)
  }
  const origin = originOf(name, FIRST_EPOCH)
  const root = generateFeedKey(`${name}/root`, LOG_KEY, deps.randomBytes)
  const log = generateFeedKey(origin, LOG_KEY, deps.randomBytes)
  const heartbeat = generateFeedKey(`${name}/heartbeat`, COSIGNER_KEY, deps.randomBytes)
  await writeKeyFile(keyFilePath(keysDir, name, 'root'), root)
  await writeKeyFile(keyFilePath(keysDir, name, 'log'), log)
  await writeKeyFile(keyFilePath(keysDir, name, 'heartbeat'), heartbeat)

  const created = seconds(deps.clock)
  const doc: RootDocument = {
    name,
    version: 1,
    created,
    expires: created + (config.lifetimeSeconds ?? LIFETIME_SECONDS),
    rootThreshold: 1,
    rootKeys: [root.publicKey],
    origin,
    epoch: FIRST_EPOCH,
    log: log.publicKey,
    heartbeat: heartbeat.publicKey,
    witnesses: [],
    quorum: 0,
    maxAge: config.maxAgeSeconds ?? MAX_AGE_SECONDS,
    maxGrowth: MAX_GROWTH,
    endOf: [],
  }
  const empty = hash('sha256', new Uint8Array(), 'buffer')
  const checkpoint = signCheckpoint({ origin, size: 0, rootHash: empty }, { log, heartbeat }, created)
  // The root document last: with it there is a feed.
  await writeFile(join(dir, formatFeedPath({ kind: 'checkpoint', epoch: FIRST_EPOCH })), checkpoint)
  await writeFile(rootPath, signRootDocument(doc, [root]))
  return { rootKey: formatVkey(root.publicKey) }
}

/**
 * Opens a feed with its log and heartbeat keys; the root key is not needed. Reads every entry, and refuses to go on
 * unless they are what the checkpoint says. One publisher a folder: the caller holds the lock of the state directory.
 *
 * @throws FeedKeyError, PublisherStateError
 */
export async function openPublisher(place: FeedPlace, deps: PublisherDeps): Promise<Publisher> {
  const { name, dir, keysDir, storeDir } = place
  const writeFile = deps.writeFile ?? writeDurably
  const doc = await readOwnRoot(place)
  const keys = {
    log: await readOwnKey(keyFilePath(keysDir, name, 'log'), storeDir, doc, 'log'),
    heartbeat: await readOwnKey(keyFilePath(keysDir, name, 'heartbeat'), storeDir, doc, 'heartbeat'),
  }
  const checkpointPath = join(dir, formatFeedPath({ kind: 'checkpoint', epoch: doc.epoch }))
  const readState = () => readLog(place, doc, checkpointPath, writeFile)
  // Undefined while a change is under way and after one that failed: memory may then be ahead of the files, or behind.
  let state: LogState | undefined = await readState()
  let { head } = state
  let last: Promise<unknown> = Promise.resolve()

  /** The state, owned by the change that takes it until it puts it back. */
  async function takeState(): Promise<LogState> {
    const taken = state ?? (await readState())
    state = undefined
    head = taken.head
    return taken
  }

  /** One change at a time. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work, work)
    last = turn.catch(() => undefined)
    return turn
  }

  async function signHead({ range }: LogFiles): Promise<SignedCheckpoint> {
    const checkpoint = { origin: doc.origin, size: range.size, rootHash: range.root() }
    const bytes = signCheckpoint(checkpoint, keys, seconds(deps.clock))
    await writeFile(checkpointPath, bytes)
    return openCheckpoint(bytes, doc)
  }

  async function appendAll(
    entries: Iterable<Entry> | AsyncIterable<Entry>,
    { signal }: CallOptions,
  ): Promise<AppendResult> {
    const log = await takeState()
    const result = { appended: 0, skipped: 0, tooLarge: 0 }
    for await (const entry of entries) {
      signal.throwIfAborted()
      const outcome = await appendOne(log, entry, storeDir)
      result[outcome] += 1
      if (outcome === 'tooLarge') {
        deps.log.warn(
          { feed: name, hashPart: subjectOf(entry) },
          'left a path out of the feed: its entry would be too large',
        )
      }
    }
    if (result.appended > 0) {
      await log.files.flush()
      signal.throwIfAborted()
      head = await signHead(log.files)
      await log.files.sweep()
    }
    state = { ...log, head }
    return { ...result, size: head.size }
  }

  return {
    name,
    get size() {
      return head.size
    },
    append: (entries, options) => inTurn(() => appendAll(entries, options)),
    heartbeat: ({ signal }) =>
      inTurn(async () => {
        signal.throwIfAborted()
        const log = await takeState()
        head = await signHead(log.files)
        state = { ...log, head }
      }),
    status: () => ({
      name,
      origin: doc.origin,
      size: head.size,
      rootHash: encodeBase64(head.rootHash),
      signedAt: head.time,
      rootKeys: doc.rootKeys.map(formatVkey),
      rootVersion: doc.version,
      expires: doc.expires,
      maxAgeSeconds: doc.maxAge,
    }),
  }
}

async function appendOne(
  { files, latest }: LogState,
  entry: Entry,
  storeDir: string,
): Promise<'appended' | 'skipped' | 'tooLarge'> {
  let bytes: Uint8Array
  try {
    bytes = formatEntry(entry, storeDir)
  } catch (error) {
    if (error instanceof EntryTooLargeError) return 'tooLarge'
    throw error
  }
  const subject = subjectOf(entry)
  if (subject !== undefined && latest.get(subject) === shortLeaf(leafHash(bytes))) return 'skipped'
  const leaf = await files.append(bytes)
  if (subject !== undefined) latest.set(subject, shortLeaf(leaf))
  return 'appended'
}

function seconds(clock: () => number): number {
  return Math.floor(clock() / 1000)
}
