/** What a publisher knows when it opens a feed: all of it read from the feed's own files, and held against its head. */
import { messageOf } from '../log.ts'
import { join } from 'node:path'
import { encodeBase64 } from '../nix/base64.ts'
import { hashPartOf, type HashPart } from '../nix/store-path.ts'
import { openCheckpoint, type SignedCheckpoint } from './checkpoint.ts'
import type { WriteFile } from './durable-file.ts'
import { parseEntry, type Entry } from './entry.ts'
import { FeedKeyError, PublisherStateError } from './errors.ts'
import { readFileIfAny } from './feed-files.ts'
import type { FeedName } from './feed-name.ts'
import { formatFeedPath } from './feed-path.ts'
import { readKeyFile } from './key-file.ts'
import { loadLogFiles, type LogFiles } from './log-files.ts'
import { parseNote } from './note.ts'
import { parseRootDocument, type RootDocument } from './root-document.ts'
import { formatVkey, type FeedSecretKey } from './vkey.ts'

export interface FeedPlace {
  readonly name: FeedName
  /** The feed's files, as any static host can serve them. */
  readonly dir: string
  readonly keysDir: string
  readonly storeDir: string
}

export interface LogState {
  head: SignedCheckpoint
  files: LogFiles
  /** Leaf hash of the newest entry about each store path, as latin1: half the memory of a buffer a path. */
  latest: Map<HashPart, string>
}

/** @throws PublisherStateError when the entries are not what the checkpoint says */
export async function readLog(
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

/** @throws PublisherStateError */
export async function readOwnRoot({ name, dir }: FeedPlace): Promise<RootDocument> {
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

/** @throws FeedKeyError also when the root document names another key */
export async function readOwnKey(
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
export function subjectOf(entry: Entry): HashPart | undefined {
  if (entry.kind === 'mapping') return hashPartOf(entry.storePath)
  return entry.kind === 'withdrawal' ? entry.hashPart : undefined
}

export function shortLeaf(leaf: Uint8Array): string {
  return Buffer.from(leaf.buffer, leaf.byteOffset, leaf.length).toString('latin1')
}
