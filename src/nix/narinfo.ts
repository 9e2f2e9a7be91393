import { NARINFO_MAX_SIGNATURES } from '../limits.ts'
import { parseContentAddress } from './content-address.ts'
import { sortedSet } from './fingerprint.ts'
import type { SignedFields } from './fingerprint.ts'
import { formatNarHash, parseNarHash } from './hash.ts'
import type { Sha256 } from './hash.ts'
import {
  parseCompression,
  parseDeriver,
  parseReferences,
  parseSize,
  parseSystem,
  parseUrl,
} from './narinfo-fields.ts'
import type { Compression, UnknownDeriver } from './narinfo-fields.ts'
import { splitNarInfo } from './narinfo-lines.ts'
import type { NarInfoLine } from './narinfo-lines.ts'
import { quote } from './quote.ts'
import { formatSignature, parseSignature } from './signature.ts'
import type { Signature } from './signature.ts'
import { formatStorePath, parseStorePath } from './store-path.ts'
import type { StorePath } from './store-path.ts'

export type { Compression } from './narinfo-fields.ts'

/** What a cache says of a store path. Parsed, not believed: only SignedFields are under the signatures. */
export interface NarInfo extends SignedFields {
  /** As it came: relative to the cache, or absolute. */
  url: string
  compression: Compression
  /** Of the file at `url`. Nobody signs or checks it. */
  fileHash?: Sha256
  /** Bytes of the file at `url`. Nobody signs or checks it. */
  fileSize?: number
  deriver?: StorePath | UnknownDeriver
  system?: string
  /** Well-formed, each once, in the order of the text. */
  signatures: readonly Signature[]
  ca?: string
  /** Root of the NAR's DAG as told, for `dag/cid.ts` to judge: our own field, which every Nix ignores. */
  cid?: string
}

/** Of a NAR that is had by its hash and as it is: nothing of such a narinfo but the signed fields and their signatures is told. */
export function plainNarInfo(told: SignedFields & Pick<NarInfo, 'signatures'>): NarInfo {
  const { storePath, narHash, narSize, references, signatures } = told
  const url = `nar/${narHash}.nar`
  return { storePath, narHash, narSize, references, signatures, url, compression: 'none' }
}

/** A text that is no narinfo which we would pass on. The message names line and field. */
export class NarInfoError extends Error {
  override readonly name = 'NarInfoError'
}

const ONCE: ReadonlySet<string> = new Set([
  'StorePath',
  'URL',
  'Compression',
  'FileHash',
  'FileSize',
  'NarHash',
  'NarSize',
  'References',
  'Deriver',
  'System',
  'CA',
  'CID',
])

const CID_SHAPE = /^[0-9A-Za-z]{1,128}$/

/**
 * Reads a narinfo (nix-protocol A3) from text that was decoded as UTF-8. Takes what real caches hold (no References
 * line, any spelling of a SHA-256, no Compression, unknown fields, any order) and refuses what makes some Nix die.
 *
 * Nix takes the last of several lines of one name; we refuse a second one of any field but Sig, so that nobody can
 * read another value than we did.
 *
 * A Sig line that is not `name:base64(64 bytes)` is dropped, not refused: beside a good one it is harmless to us, but
 * fatal to Nix where the name is a trusted one, and from 2.34 on always (nix-protocol 0.7), so it must never be
 * passed on. It counts towards NARINFO_MAX_SIGNATURES nevertheless.
 * @throws NarInfoError
 */
export function parseNarInfo(text: string, storeDir: string): NarInfo {
  const lines = linesOf(text)
  const fields = new Map<string, NarInfoLine>()
  for (const line of lines) {
    if (!ONCE.has(line.name)) continue
    if (fields.has(line.name)) throw fault(line, 'the field is there twice')
    fields.set(line.name, line)
  }
  const info: NarInfo = {
    storePath: required(fields, 'StorePath', (value) => parseStorePath(value, storeDir)),
    url: required(fields, 'URL', parseUrl),
    compression: optional(fields, 'Compression', parseCompression) ?? 'bzip2',
    narHash: required(fields, 'NarHash', parseNarHash),
    narSize: required(fields, 'NarSize', (value) => parseSize(value, 1)),
    references: optional(fields, 'References', parseReferences) ?? [],
    signatures: signaturesOf(lines.filter((line) => line.name === 'Sig')),
  }
  const fileHash = optional(fields, 'FileHash', parseNarHash)
  const fileSize = optional(fields, 'FileSize', (value) => parseSize(value, 0))
  const deriver = optional(fields, 'Deriver', parseDeriver)
  const system = optional(fields, 'System', emptyOr(parseSystem))
  const ca = optional(fields, 'CA', emptyOr(parseContentAddress))
  const cid = fields.get('CID')?.value
  if (fileHash !== undefined) info.fileHash = fileHash
  if (fileSize !== undefined) info.fileSize = fileSize
  if (deriver !== undefined) info.deriver = deriver
  if (system !== undefined) info.system = system
  if (ca !== undefined) info.ca = ca
  // Other software may mean something else by the name: what cannot be a CID is an unknown field.
  if (cid !== undefined && CID_SHAPE.test(cid)) info.cid = cid
  return info
}

/**
 * Writes a narinfo in Nix's own order (nix-protocol A3), hashes as `sha256:` and nix32, references sorted, References
 * always (the space after its colon is not optional: without it Nix reads on in the next line).
 * @throws NarInfoError when a field would break the line it stands in
 */
export function formatNarInfo(info: NarInfo, storeDir: string): string {
  const lines: (readonly [name: string, value: string | number | undefined])[] = [
    ['StorePath', formatStorePath(info.storePath, storeDir)],
    ['URL', info.url],
    ['Compression', info.compression],
    ['FileHash', info.fileHash && formatNarHash(info.fileHash)],
    ['FileSize', info.fileSize],
    ['NarHash', formatNarHash(info.narHash)],
    ['NarSize', info.narSize],
    ['References', sortedSet(info.references).join(' ')],
    ['Deriver', info.deriver],
    ['System', info.system],
    ...info.signatures.map((signature) => ['Sig', formatSignature(signature)] as const),
    ['CA', info.ca],
    ['CID', info.cid],
  ]
  let text = ''
  for (const [name, value] of lines) {
    if (value === undefined) continue
    if (/[\r\n]/.test(String(value))) throw new NarInfoError(`narinfo: ${name} holds a line break`)
    text += `${name}: ${value}\n`
  }
  return text
}

function linesOf(text: string): NarInfoLine[] {
  try {
    return splitNarInfo(text)
  } catch (cause) {
    throw new NarInfoError(`narinfo: ${messageOf(cause)}`, { cause })
  }
}

function signaturesOf(lines: readonly NarInfoLine[]): Signature[] {
  const excess = lines[NARINFO_MAX_SIGNATURES]
  if (excess !== undefined) {
    throw fault(excess, `${lines.length} signatures, at most ${NARINFO_MAX_SIGNATURES} are read`)
  }
  const signatures = new Map<string, Signature>()
  for (const { value } of lines) {
    const signature = wellFormed(value)
    if (signature !== undefined) signatures.set(formatSignature(signature), signature)
  }
  return [...signatures.values()]
}

function wellFormed(text: string): Signature | undefined {
  try {
    return parseSignature(text)
  } catch {
    return undefined
  }
}

type Fields = ReadonlyMap<string, NarInfoLine>

function required<T>(fields: Fields, name: string, parse: (value: string) => T): T {
  const line = fields.get(name)
  if (line === undefined) throw new NarInfoError(`narinfo: expected a field ${name}, there is none`)
  return parsed(line, parse)
}

function optional<T>(fields: Fields, name: string, parse: (value: string) => T): T | undefined {
  const line = fields.get(name)
  return line === undefined ? undefined : parsed(line, parse)
}

function emptyOr<T>(parse: (value: string) => T): (value: string) => T | undefined {
  return (value) => (value === '' ? undefined : parse(value))
}

function parsed<T>(line: NarInfoLine, parse: (value: string) => T): T {
  try {
    return parse(line.value)
  } catch (cause) {
    throw fault(line, messageOf(cause), { cause })
  }
}

function fault(line: NarInfoLine, reason: string, options?: ErrorOptions): NarInfoError {
  return new NarInfoError(`narinfo line ${line.line} (${quote(line.name)}): ${reason}`, options)
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
