import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { nodeCid, rawCid } from '../../src/dag/cid.ts'
import { signCheckpoint, type Checkpoint } from '../../src/feed/checkpoint.ts'
import type { MappingEntry, Withdrawal } from '../../src/feed/entry.ts'
import { createPublishedFiles } from '../../src/feed/feed-files.ts'
import { parseFeedName } from '../../src/feed/feed-name.ts'
import type { FeedSource } from '../../src/feed/feed-source.ts'
import { createFollower, type Follower } from '../../src/feed/follower.ts'
import { keyFilePath, readKeyFile } from '../../src/feed/key-file.ts'
import { createFeed, openPublisher, type Publisher, type PublisherDeps } from '../../src/feed/publisher.ts'
import type { FeedSecretKey } from '../../src/feed/vkey.ts'
import { narHashFromDigest } from '../../src/nix/hash.ts'
import { parseSignature } from '../../src/nix/signature.ts'
import { hashPartOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog, type LogLine } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

export const STORE_DIR = '/nix/store'
export const NAME = parseFeedName('narswarm.example/main')
/** Of the vector in docs/spec/feed.md, in seconds. */
export const T0 = 1_790_000_000
export const MIB = 1024 * 1024

export function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** The `n`-th of endlessly many well-formed mappings. */
export function mapping(n: number, changes: Partial<MappingEntry> = {}): MappingEntry {
  const narHash = narHashFromDigest(sha256(`nar ${n}`))
  const small = n % 2 === 0
  return {
    kind: 'mapping',
    storePath: parseStorePathBaseName(`${encodeNix32(sha256(`path ${n}`).subarray(0, 20))}-package-${n}`),
    narHash,
    narSize: small ? 1000 + n : MIB + 1 + n,
    references: [],
    signatures: [parseSignature(`cache.example-1:${Buffer.alloc(64, n % 256).toString('base64')}`)],
    cid: small ? rawCid(sha256(`nar ${n}`)) : nodeCid(sha256(`root ${n}`)),
    ...changes,
  }
}

export function mappings(from: number, to: number): MappingEntry[] {
  return Array.from({ length: to - from }, (_, at) => mapping(from + at))
}

export function withdrawalOf(entry: MappingEntry): Withdrawal {
  const { narHash, storePath } = entry
  return { kind: 'withdrawal', hashPart: hashPartOf(storePath), narHash, reason: 'withdrawn' }
}

export function seed(byte: number): Uint8Array {
  return new Uint8Array(32).fill(byte)
}

/** Keys from the seeds `first`, `first` + 1 … */
export function countingRandom(first: number): (n: number) => Uint8Array {
  let next = first
  return (n) => new Uint8Array(n).fill(next++)
}

export function never(): AbortSignal {
  return new AbortController().signal
}

/** A clock to be set, in seconds. */
export interface TestClock {
  (): number
  seconds: number
}

export function testClock(seconds = T0): TestClock {
  const clock = () => clock.seconds * 1000
  clock.seconds = seconds
  return clock
}

export interface TestFeed {
  dir: string
  keysDir: string
  rootKey: string
  clock: TestClock
  publisher: Publisher
  keys: { root: FeedSecretKey; log: FeedSecretKey; heartbeat: FeedSecretKey }
  /** The feed's own folder as a source; files by path take the place of what is there. */
  source(id?: string, instead?: Record<string, Uint8Array | undefined>): FeedSource
  /** A checkpoint signed by the feed's own keys. */
  sign(checkpoint: Partial<Checkpoint> & { size: number; rootHash: Uint8Array }, time?: number): Uint8Array
  file(path: string): Promise<Buffer>
}

export interface TestFeedOptions {
  clock?: TestClock
  firstSeed?: number
  writeFile?: PublisherDeps['writeFile']
  maxAgeSeconds?: number
  lifetimeSeconds?: number
}

/** A real feed in a folder of its own. */
export async function testFeed(t: TestContext, options: TestFeedOptions = {}): Promise<TestFeed> {
  const base = await tempDir(t)
  const { clock = testClock(), firstSeed = 0x10, writeFile, ...limits } = options
  const place = { name: NAME, dir: join(base, 'feed'), keysDir: join(base, 'keys'), storeDir: STORE_DIR }
  const deps = { clock, log: recordingLog() }
  const { rootKey } = await createFeed(
    { ...place, ...limits },
    { ...deps, randomBytes: countingRandom(firstSeed) },
  )
  const publisher = await openPublisher(place, { ...deps, ...(writeFile !== undefined && { writeFile }) })
  const key = (purpose: 'root' | 'log' | 'heartbeat') =>
    readKeyFile(keyFilePath(place.keysDir, NAME, purpose), STORE_DIR)
  const keys = { root: await key('root'), log: await key('log'), heartbeat: await key('heartbeat') }
  const files = createPublishedFiles(new Map([[NAME, place.dir]]))
  return {
    dir: place.dir,
    keysDir: place.keysDir,
    rootKey,
    clock,
    publisher,
    keys,
    source: (id = 'folder', instead = {}) => ({
      id,
      fetch: async (path) => (Object.hasOwn(instead, path) ? instead[path] : files.read(NAME, path)),
    }),
    sign: (checkpoint, time = clock.seconds) =>
      signCheckpoint({ origin: `${NAME}/e1`, ...checkpoint }, keys, time),
    file: (path) => readFile(join(place.dir, path)),
  }
}

export interface TestFollower {
  follower: Follower
  db: DatabaseSync
  lines: LogLine[]
  /** Every row of every table. */
  dump: () => string
}

export async function testFollower(
  t: TestContext,
  feed: { rootKey: string; clock: TestClock },
  sources: readonly FeedSource[],
  options: { dbPath?: string; builtAt?: number; storeDir?: string } = {},
): Promise<TestFollower> {
  const db = openDatabase(options.dbPath ?? join(await tempDir(t), 'state.sqlite'), { synchronous: 'FULL' })
  t.after(() => db.isOpen && db.close())
  const log = recordingLog()
  const follower = createFollower(
    { db, clock: feed.clock, log, storeDir: options.storeDir ?? STORE_DIR },
    {
      feeds: [{ name: NAME, rootKey: feed.rootKey, sources }],
      ...(options.builtAt !== undefined && { builtAt: options.builtAt }),
    },
  )
  return { follower, db, lines: log.lines, dump: () => dumpOf(db) }
}

function dumpOf(db: DatabaseSync): string {
  const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all()
  return tables
    .map(({ name }) => {
      const rows = db.prepare(`SELECT * FROM ${String(name)}`).all()
      return `${String(name)}\n${rows.map((row) => rowText(row)).join('\n')}`
    })
    .join('\n')
}

function rowText(row: Record<string, unknown>): string {
  return Object.values(row)
    .map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value)))
    .join(' ')
}
