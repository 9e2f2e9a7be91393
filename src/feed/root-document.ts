/**
 * The root document: which keys speak for a feed, and by which rules. A signed note of fixed lines, TUF-like
 * [security 2.2]. Written here for version 1; a version follows the one before when both its and its own root keys have
 * signed it.
 */
import { encodeBase64 } from '../nix/base64.ts'
import { quote } from '../nix/quote.ts'
import { decodeBase64 } from './base64.ts'
import type { CheckpointKeys } from './checkpoint.ts'
import { parseDecimal } from './decimal.ts'
import { FeedFormatError, FeedRefusedError, FeedSignatureError } from './errors.ts'
import { originOf, parseFeedName, type FeedName } from './feed-name.ts'
import { HASH_BYTES } from './merkle.ts'
import { formatNote, parseNote, signText, verifyNote, type Note } from './note.ts'
import {
  COSIGNER_KEY,
  formatVkey,
  LOG_KEY,
  parseVkey,
  type FeedPublicKey,
  type FeedSecretKey,
  type KeyType,
} from './vkey.ts'

export interface RootDocument extends CheckpointKeys {
  readonly name: FeedName
  readonly version: number
  /** Unix seconds. */
  readonly created: number
  /** Unix seconds. Afterwards nothing new is learned from the feed. */
  readonly expires: number
  /** How many of `rootKeys` must sign. */
  readonly rootThreshold: number
  /** 1 to 16, type 1. */
  readonly rootKeys: readonly FeedPublicKey[]
  readonly epoch: number
  /** Seconds for which a heartbeat counts as fresh. */
  readonly maxAge: number
  /** The most entries that one step may add. */
  readonly maxGrowth: number
  /** Last good heads of older epochs. */
  readonly endOf: readonly { origin: string; size: number; rootHash: Uint8Array }[]
}

const HEADER = 'narswarm/root/v1'
const LAYOUT = 'unixfs-v1-2025'
const MAX_KEYS = 16

export function formatRootDocument(doc: RootDocument): string {
  const lines = [
    HEADER,
    `name ${doc.name}`,
    `version ${doc.version}`,
    `created ${doc.created}`,
    `expires ${doc.expires}`,
    `root-threshold ${doc.rootThreshold}`,
    ...sortedKeys(doc.rootKeys).map((vkey) => `root-key ${vkey}`),
    `log ${doc.origin} ${formatVkey(doc.log)}`,
    `heartbeat ${formatVkey(doc.heartbeat)}`,
    ...sortedKeys(doc.witnesses).map((vkey) => `witness ${vkey}`),
    `quorum ${doc.quorum}`,
    `max-age ${doc.maxAge}`,
    `max-growth ${doc.maxGrowth}`,
    `layout ${LAYOUT}`,
    ...doc.endOf.map(({ origin, size, rootHash }) => `end-of ${origin} ${size} ${encodeBase64(rootHash)}`),
  ]
  return `${lines.join('\n')}\n`
}

/** @throws FeedFormatError */
export function parseRootDocument(text: string): RootDocument {
  const lines = createLineReader(text)
  lines.exactly(HEADER)
  const name = parseFeedName(lines.one('name'))
  const version = lines.number('version', 1)
  const created = lines.number('created', 1)
  const expires = lines.number('expires', created + 1)
  const rootThreshold = lines.number('root-threshold', 1)
  const rootKeys = lines.many('root-key').map((vkey) => typedKey(vkey, LOG_KEY))
  const [origin = '', logVkey = ''] = lines.one('log').split(' ')
  const log = typedKey(logVkey, LOG_KEY)
  const heartbeat = typedKey(lines.one('heartbeat'), COSIGNER_KEY)
  const witnesses = lines.many('witness').map((vkey) => typedKey(vkey, COSIGNER_KEY))
  const quorum = lines.number('quorum', 0)
  const maxAge = lines.number('max-age', 1)
  const maxGrowth = lines.number('max-growth', 1)
  lines.exactly(`layout ${LAYOUT}`)
  const endOf = lines.many('end-of').map(parseEndOf)
  lines.end()

  const epoch = parseDecimal(origin.slice(originOf(name, 0).length - 1))
  if (epoch === undefined || epoch < 1 || originOf(name, epoch) !== origin) {
    throw fault(`log: expected an origin ${name}/e<epoch>, got ${quote(origin)}`)
  }
  if (log.name !== origin) throw fault(`log: expected a key named as the origin, got ${quote(log.name)}`)
  if (rootKeys.length < 1 || rootKeys.length > MAX_KEYS || witnesses.length > MAX_KEYS) {
    throw fault(`expected 1 to ${MAX_KEYS} root keys and at most ${MAX_KEYS} witnesses`)
  }
  if (rootThreshold > rootKeys.length) {
    throw fault(`root-threshold: expected at most ${rootKeys.length}, got ${rootThreshold}`)
  }
  if (quorum > witnesses.length) throw fault(`quorum: expected at most ${witnesses.length}, got ${quorum}`)
  const keys = [...rootKeys, log, heartbeat, ...witnesses]
  if (new Set(keys.map(({ key }) => encodeBase64(key.bytes))).size !== keys.length) {
    throw fault('one key stands for two purposes, or twice')
  }
  const doc: RootDocument = {
    name,
    version,
    created,
    expires,
    rootThreshold,
    rootKeys,
    origin,
    epoch,
    log,
    heartbeat,
    witnesses,
    quorum,
    maxAge,
    maxGrowth,
    endOf,
  }
  if (formatRootDocument(doc) !== text)
    throw fault('not in canonical form: lines out of order, or not sorted')
  return doc
}

export function signRootDocument(doc: RootDocument, rootKeys: readonly FeedSecretKey[]): Uint8Array {
  const text = formatRootDocument(doc)
  return formatNote({ text, signatures: rootKeys.map((key) => signText(text, key, doc.created)) })
}

/**
 * Reads version 1, from which a follower starts: signed by the pinned root key and as many of its own root keys as it
 * asks for.
 *
 * @throws FeedFormatError, FeedSignatureError
 * @throws FeedRefusedError when it is another feed's or a later version
 */
export function openFirstRootDocument(
  bytes: Uint8Array,
  pin: { name: FeedName; rootKey: FeedPublicKey },
): RootDocument {
  const note = parseNote(bytes)
  verifyNote(note, [pin.rootKey])
  const doc = parseRootDocument(note.text)
  if (doc.name !== pin.name) {
    throw new FeedRefusedError(`root document: expected feed ${quote(pin.name)}, got ${quote(doc.name)}`)
  }
  if (doc.version !== 1) {
    throw new FeedRefusedError(
      `root document: expected version 1, got ${doc.version}: rotation is not supported by this version`,
    )
  }
  if (!doc.rootKeys.some((key) => formatVkey(key) === formatVkey(pin.rootKey))) {
    throw new FeedSignatureError('root document: the pinned key is none of its root keys')
  }
  checkThreshold(note, doc)
  return doc
}

/**
 * Whether `bytes` are what follows `doc`: the next version, signed by enough root keys of both.
 *
 * @throws FeedFormatError, FeedSignatureError, FeedRefusedError
 */
export function checkSuccessor(bytes: Uint8Array, doc: RootDocument): void {
  const note = parseNote(bytes)
  checkThreshold(note, doc)
  const next = parseRootDocument(note.text)
  if (next.name !== doc.name || next.version !== doc.version + 1) {
    throw new FeedRefusedError(
      `root document: expected version ${doc.version + 1} of ${doc.name}, got ${next.version} of ${quote(next.name)}`,
    )
  }
  checkThreshold(note, next)
}

/** Keys are all different in one document, so each signature is another key's. */
function checkThreshold(note: Note, doc: RootDocument): void {
  const signed = verifyNote(note, doc.rootKeys).length
  if (signed < doc.rootThreshold) {
    throw new FeedSignatureError(
      `root document version ${doc.version}: expected signatures by ${doc.rootThreshold} root keys, got ${signed}`,
    )
  }
}

function typedKey(vkey: string, type: KeyType): FeedPublicKey {
  const key = parseVkey(vkey)
  if (key.type !== type) throw fault(`expected a key of type ${type}, got ${quote(vkey)}`)
  return key
}

function sortedKeys(keys: readonly FeedPublicKey[]): string[] {
  return keys.map(formatVkey).sort(compareText)
}

/** By UTF-16 code units, which is by bytes: key names are ASCII. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function parseEndOf(value: string): { origin: string; size: number; rootHash: Uint8Array } {
  const [origin = '', sizeText = '', hashText = ''] = value.split(' ')
  const size = parseDecimal(sizeText)
  const rootHash = decodeBase64(hashText)
  if (origin === '' || size === undefined || rootHash?.length !== HASH_BYTES) {
    throw fault(`end-of: expected <origin> <size> <root hash>, got ${quote(value)}`)
  }
  return { origin, size, rootHash }
}

function fault(reason: string): FeedFormatError {
  return new FeedFormatError(`root document: ${reason}`)
}

function createLineReader(text: string) {
  const lines = text.split('\n')
  let at = 0
  const expected = (what: string) => fault(`line ${at + 1}: expected ${what}, got ${quote(lines[at] ?? '')}`)
  function one(word: string): string {
    const line = lines[at]
    if (line === undefined || !line.startsWith(`${word} `)) throw expected(`"${word} …"`)
    at += 1
    return line.slice(word.length + 1)
  }
  return {
    one,
    many(word: string): string[] {
      const values: string[] = []
      while (lines[at]?.startsWith(`${word} `) === true) values.push(one(word))
      return values
    },
    number(word: string, min: number): number {
      const text = one(word)
      const value = parseDecimal(text)
      if (value === undefined || value < min) {
        throw fault(`${word}: expected a decimal from ${min}, got ${quote(text)}`)
      }
      return value
    },
    exactly(line: string): void {
      if (lines[at] !== line) throw expected(quote(line))
      at += 1
    },
    end(): void {
      if (at !== lines.length - 1 || lines[at] !== '') throw expected('the end')
    },
  }
}
