/**
 * An entry of a feed: text in the grammar of narinfos, in one canonical form, so that equal entries are equal bytes. The
 * format is `docs/spec/feed.md`.
 */
import type { CID } from 'multiformats/cid'
import { nodeCid, parseCid, rawCid } from '../dag/cid.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { FEED_ENTRY_MAX_BYTES, FEED_ENTRY_MAX_SIGNATURES, NAR_MAX_BYTES } from '../limits.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import { formatNarHash, isNarHash, narHashDigest, type NarHash } from '../nix/hash.ts'
import { quote } from '../nix/quote.ts'
import { formatSignature, parseSignature, type Signature } from '../nix/signature.ts'
import {
  formatStorePath,
  isHashPart,
  parseStorePath,
  parseStorePathBaseName,
  type HashPart,
} from '../nix/store-path.ts'
import { parseDecimal } from './decimal.ts'
import { FeedFormatError } from './errors.ts'
import { decodeUtf8, encodeUtf8 } from './text.ts'

/** A store path, its NAR, upstream's own signatures over both, and the root of the NAR's DAG. */
export interface MappingEntry extends SignedFields {
  readonly kind: 'mapping'
  /** 1 to 8, sorted as text. Unverified here: policy judges them. */
  readonly signatures: readonly Signature[]
  readonly cid: CID
}

const REASONS = ['bad-cid', 'withdrawn', 'malicious', 'legal'] as const
type WithdrawalReason = (typeof REASONS)[number]

/** Takes back what was said before about this NAR of this path; a later mapping puts it in force again. */
export interface Withdrawal {
  readonly kind: 'withdrawal'
  readonly hashPart: HashPart
  readonly narHash: NarHash
  readonly reason: WithdrawalReason
}

/** Makes a change of keys visible in the log. */
interface RootChange {
  readonly kind: 'root'
  readonly version: number
  /** SHA-256 of the root document's note. */
  readonly hash: NarHash
}

/** A table of entries 0 to `size`, for those who do not want to read them all. */
interface Snapshot {
  readonly kind: 'snapshot'
  readonly cid: CID
  readonly size: number
}

export type Entry = MappingEntry | Withdrawal | RootChange | Snapshot

/** A path with so many references or signatures that its entry does not fit: it is left out of the feed. */
export class EntryTooLargeError extends FeedFormatError {}

/**
 * The canonical bytes. References and signatures are sorted and made unique.
 *
 * @throws EntryTooLargeError
 * @throws FeedFormatError when a field has no canonical form, such as a CID that does not fit NarSize
 */
export function formatEntry(entry: Entry, storeDir: string): Uint8Array {
  const bytes = encodeUtf8(`${linesOf(entry, storeDir).join('\n')}\n`)
  if (bytes.length > FEED_ENTRY_MAX_BYTES) {
    throw new EntryTooLargeError(`entry: expected at most ${FEED_ENTRY_MAX_BYTES} bytes, got ${bytes.length}`)
  }
  parseEntry(bytes, storeDir)
  return bytes
}

/**
 * Takes the canonical form and nothing else: every line in its place, once, no line more.
 *
 * @throws FeedFormatError with field and line
 */
export function parseEntry(bytes: Uint8Array, storeDir: string): Entry {
  if (bytes.length < 1 || bytes.length > FEED_ENTRY_MAX_BYTES) {
    throw new FeedFormatError(`entry: expected 1 to ${FEED_ENTRY_MAX_BYTES} bytes, got ${bytes.length}`)
  }
  const text = decodeUtf8(bytes, 'entry')
  const entry = readEntry(text, storeDir)
  // The reader takes each field strictly; this catches whatever way it may still leave to write one entry twice.
  if (`${linesOf(entry, storeDir).join('\n')}\n` !== text) {
    throw new FeedFormatError(`entry: not in canonical form (order, repetition or spelling): ${quote(text)}`)
  }
  return entry
}

function linesOf(entry: Entry, storeDir: string): string[] {
  switch (entry.kind) {
    case 'mapping':
      return [
        `StorePath: ${formatStorePath(entry.storePath, storeDir)}`,
        `NarHash: ${formatNarHash(entry.narHash)}`,
        `NarSize: ${entry.narSize}`,
        `References: ${sortedUnique(entry.references).join(' ')}`,
        ...sortedUnique(entry.signatures.map(formatSignature)).map((signature) => `Sig: ${signature}`),
        `CID: ${entry.cid.toString()}`,
      ]
    case 'withdrawal':
      return [
        `Withdraw: ${entry.hashPart}`,
        `NarHash: ${formatNarHash(entry.narHash)}`,
        `Reason: ${entry.reason}`,
      ]
    case 'root':
      return [`Root: ${entry.version} ${formatNarHash(entry.hash)}`]
    default:
      return [`Snapshot: ${entry.cid.toString()}`, `Size: ${entry.size}`]
  }
}

function readEntry(text: string, storeDir: string): Entry {
  const fields = createFieldReader(text)
  const entry = readKind(fields, storeDir)
  fields.end()
  return entry
}

function readKind(fields: FieldReader, storeDir: string): Entry {
  switch (fields.next()) {
    case 'StorePath':
      return readMapping(fields, storeDir)
    case 'Withdraw':
      return {
        kind: 'withdrawal',
        hashPart: fields.one('Withdraw', parseHashPart),
        narHash: fields.one('NarHash', parseHash),
        reason: fields.one('Reason', parseReason),
      }
    case 'Root':
      return { kind: 'root', ...fields.one('Root', parseRoot) }
    case 'Snapshot':
      return { kind: 'snapshot', cid: fields.one('Snapshot', parseCid), size: fields.one('Size', parseSize) }
    default:
      throw fields.fault('StorePath, Withdraw, Root or Snapshot')
  }
}

function readMapping(fields: FieldReader, storeDir: string): MappingEntry {
  const storePath = fields.one('StorePath', (value) => parseStorePath(value, storeDir))
  const narHash = fields.one('NarHash', parseHash)
  const narSize = fields.one('NarSize', parseSize)
  const references = fields.one('References', (value) =>
    value === '' ? [] : value.split(' ').map((name) => parseStorePathBaseName(name)),
  )
  const signatures = [fields.one('Sig', parseSignature)]
  while (fields.next() === 'Sig') signatures.push(fields.one('Sig', parseSignature))
  const cid = fields.one('CID', parseCid)
  if (narSize > NAR_MAX_BYTES) {
    throw new FeedFormatError(`entry: NarSize: expected at most ${NAR_MAX_BYTES}, got ${narSize}`)
  }
  if (signatures.length > FEED_ENTRY_MAX_SIGNATURES) {
    throw new FeedFormatError(
      `entry: Sig: expected 1 to ${FEED_ENTRY_MAX_SIGNATURES} lines, got ${signatures.length}`,
    )
  }
  checkFit(cid, narHash, narSize)
  return { kind: 'mapping', storePath, narHash, narSize, references, signatures, cid }
}

/** A NAR of one leaf is that leaf, so its CID says nothing new; of a larger one the root is a dag-pb node. */
function checkFit(cid: CID, narHash: NarHash, narSize: number): void {
  const raw = narSize <= LEAF_BYTES
  const expected = (raw ? rawCid(narHashDigest(narHash)) : nodeCid(cid.multihash.digest)).toString()
  if (expected !== cid.toString()) {
    const what = raw ? expected : 'a dag-pb node'
    throw new FeedFormatError(`entry: CID: expected ${what} for NarSize ${narSize}, got ${cid.toString()}`)
  }
}

/** Only one of the spellings that narinfos have. */
function parseHash(value: string): NarHash {
  const bare = value.slice('sha256:'.length)
  if (!value.startsWith('sha256:') || !isNarHash(bare)) {
    throw new RangeError('expected sha256: and 52 characters of nix32')
  }
  return bare
}

function parseSize(value: string): number {
  const size = parseDecimal(value)
  if (size === undefined || size < 1) throw new RangeError('expected a positive decimal below 2^53')
  return size
}

function parseHashPart(value: string): HashPart {
  if (!isHashPart(value)) throw new RangeError('expected 32 characters of nix32')
  return value
}

function parseReason(value: string): WithdrawalReason {
  const reason = REASONS.find((known) => known === value)
  if (reason === undefined) throw new RangeError(`expected ${REASONS.join(', ')}`)
  return reason
}

function parseRoot(value: string): { version: number; hash: NarHash } {
  const space = value.indexOf(' ')
  return { version: parseSize(value.slice(0, space)), hash: parseHash(value.slice(space + 1)) }
}

function sortedUnique(values: readonly string[]): string[] {
  // Code units are bytes here: all these values are ASCII.
  return [...new Set(values)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
}

type FieldReader = ReturnType<typeof createFieldReader>

/** Lines are `Name: value`, with exactly one space, and each ends in a newline. */
function createFieldReader(text: string) {
  const lines = text.split('\n')
  let at = 0
  const current = () => lines[at] ?? ''
  const fault = (expected: string, cause?: unknown) =>
    new FeedFormatError(`entry: line ${at + 1}: expected ${expected}, got ${quote(current())}`, { cause })
  return {
    fault,
    /** The name of the line that is due. */
    next(): string {
      return current().split(':', 1)[0] ?? ''
    },
    one<T>(name: string, parse: (value: string) => T): T {
      const line = current()
      if (!line.startsWith(`${name}: `)) throw fault(name)
      let value: T
      try {
        value = parse(line.slice(name.length + 2))
      } catch (cause) {
        throw fault(`a valid ${name} (${cause instanceof Error ? cause.message : 'malformed'})`, cause)
      }
      at += 1
      return value
    },
    end(): void {
      if (at !== lines.length - 1 || current() !== '') throw fault('the end of the entry, behind one newline')
    },
  }
}
