/** The one writer of a feed: appends entries, and says from time to time that the head is still the head. */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import type { Log } from '../log.ts'
import { encodeBase64 } from '../nix/base64.ts'
import { hashPartOf, type HashPart } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import { openCheckpoint, signCheckpoint, type SignedCheckpoint } from './checkpoint.ts'
import { writeDurably, type WriteFile } from './durable-file.ts'
import { EntryTooLargeError, formatEntry, parseEntry, type Entry } from './entry.ts'
import { FeedKeyError, messageOf, PublisherStateError } from './errors.ts'
import { readFileIfAny } from './feed-files.ts'
import { originOf, type FeedName } from './feed-name.ts'
import { formatFeedPath } from './feed-path.ts'
import { keyFilePath, readKeyFile, writeKeyFile } from './key-file.ts'
import { loadLogFiles, type LogFiles } from './log-files.ts'
import { leafHash } from './merkle.ts'
import { parseNote } from './note.ts'
import { parseRootDocument, signRootDocument, type RootDocument } from './root-document.ts'
import { COSIGNER_KEY, formatVkey, generateFeedKey, LOG_KEY, type FeedSecretKey } from './vkey.ts'

export interface FeedPlace {
  readonly name: FeedName
  /** The feed's files, as any static host can serve them. */
  readonly dir: string
  readonly keysDir: string
  readonly storeDir: string
}

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

export interface AppendResult {
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

interface LogState {
  head: SignedCheckpoint
  files: LogFiles
  /** Leaf hash of the newest entry about each store path, as latin1: half the memory of a buffer a path. */
  latest: Map<HashPart, string>
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

async function readLog(
  place: FeedPlace,
  doc: RootDocument,
  checkpointPath: string,
  writeFile: WriteFile,
): Promise<LogState> {
  try {
    return await readCheckedLog(place, doc, checkpointPath, writeFile)
  } catch (cause) {
    if (cause instanceof PublisherStateError) throw cause
    throw new PublisherStateError(`${place.dir}: ${messageOf(cause)}`, { cause })
  }
}

async function readCheckedLog(
  { dir, storeDir }: FeedPlace,
  doc: RootDocument,
  checkpointPath: string,
  writeFile: WriteFile,
): Promise<LogState> {
  const bytes = await readFileIfAny(checkpointPath)
  if (bytes === undefined) throw new PublisherStateError(`${checkpointPath} is missing`)
  const head = openCheckpoint(bytes, doc)
  const latest = new Map<HashPart, string>()
  const files = await loadLogFiles({
    dir,
    epoch: doc.epoch,
    size: head.size,
    writeFile,
    onEntry(entry, leaf) {
      const subject = subjectOf(parseEntry(entry, storeDir))
      if (subject !== undefined) latest.set(subject, shortLeaf(leaf))
    },
  })
  const rootHash = encodeBase64(files.range.root())
  if (rootHash !== encodeBase64(head.rootHash)) {
    throw new PublisherStateError(
      `${dir}: the ${head.size} entries have root ${rootHash}, the checkpoint says ${encodeBase64(head.rootHash)}`,
    )
  }
  return { head, files, latest }
}

async function readOwnRoot({ name, dir }: FeedPlace): Promise<RootDocument> {
  const path = join(dir, formatFeedPath({ kind: 'root', version: 1 }))
  const bytes = await readFileIfAny(path)
  if (bytes === undefined) throw new PublisherStateError(`${dir}: there is no feed (no ${path})`)
  try {
    const doc = parseRootDocument(parseNote(bytes).text)
    if (doc.name !== name) throw new PublisherStateError(`expected feed ${name}, got ${doc.name}`)
    return doc
  } catch (cause) {
    throw new PublisherStateError(`${path}: ${messageOf(cause)}`, { cause })
  }
}

async function readOwnKey(
  path: string,
  storeDir: string,
  doc: RootDocument,
  purpose: 'log' | 'heartbeat',
): Promise<FeedSecretKey> {
  const key = await readKeyFile(path, storeDir)
  const [expected, got] = [formatVkey(doc[purpose]), formatVkey(key.publicKey)]
  if (expected !== got) {
    throw new FeedKeyError(`key file ${path}: expected the ${purpose} key ${expected}, got ${got}`)
  }
  return key
}

/** What an entry is about, when it is about a store path. */
function subjectOf(entry: Entry): HashPart | undefined {
  if (entry.kind === 'mapping') return hashPartOf(entry.storePath)
  return entry.kind === 'withdrawal' ? entry.hashPart : undefined
}

function shortLeaf(leaf: Uint8Array): string {
  return Buffer.from(leaf.buffer, leaf.byteOffset, leaf.length).toString('latin1')
}

function seconds(clock: () => number): number {
  return Math.floor(clock() / 1000)
}
