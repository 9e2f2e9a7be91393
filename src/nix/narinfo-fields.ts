import { NAR_MAX_BYTES } from '../limits.ts'
import { sortedSet } from './fingerprint.ts'
import { quote } from './quote.ts'
import { parseStorePathBaseName } from './store-path.ts'
import type { StorePath } from './store-path.ts'

/** What we decode (nix-protocol A6). An unknown word passed on would make Nix 2.34 abort. */
export type Compression = 'none' | 'xz' | 'bzip2' | 'gzip' | 'zstd' | 'br'

/** What stands there when nobody knows the derivation. */
export type UnknownDeriver = 'unknown-deriver'

const COMPRESSIONS: readonly string[] = ['none', 'xz', 'bzip2', 'gzip', 'zstd', 'br'] satisfies Compression[]

const VISIBLE_ASCII = /^[!-~]+$/
const DECIMAL = /^(?:0|[1-9][0-9]{0,15})$/

/** Empty means bzip2, the only one there was at first. */
export function parseCompression(text: string): Compression {
  if (text === '') return 'bzip2'
  if (!COMPRESSIONS.includes(text)) {
    throw new RangeError(`expected one of ${COMPRESSIONS.join(', ')}, got ${quote(text)}`)
  }
  return text as Compression
}

/** The text as it came; where it may lead is for the upstream to decide. */
export function parseUrl(text: string): string {
  if (!VISIBLE_ASCII.test(text)) throw new RangeError(`expected visible ASCII, got ${quote(text)}`)
  return text
}

/** Bytes in decimal, from `min` to NAR_MAX_BYTES, without the '+' and leading zeros that Nix 2.8.0 takes (security A16). */
export function parseSize(text: string, min: 0 | 1): number {
  const size = DECIMAL.test(text) ? Number(text) : Number.NaN
  if (!(size >= min && size <= NAR_MAX_BYTES)) {
    throw new RangeError(`expected a decimal number from ${min} to ${NAR_MAX_BYTES}, got ${quote(text)}`)
  }
  return size
}

/**
 * Base names between spaces, as a sorted set. One named twice is refused, which Nix would fold: the line no longer
 * says what was signed.
 */
export function parseReferences(text: string): StorePath[] {
  const named = text.split(' ').filter((word) => word !== '')
  const references = sortedSet(named.map(parseStorePathBaseName))
  if (references.length !== named.length) {
    throw new RangeError(`${named.length - references.length} of ${named.length} references are named twice`)
  }
  return references
}

export function parseDeriver(text: string): StorePath | UnknownDeriver {
  return text === 'unknown-deriver' ? text : parseStorePathBaseName(text)
}

/** A platform such as `x86_64-linux`; Nix ignores it. */
export function parseSystem(text: string): string {
  if (!VISIBLE_ASCII.test(text)) throw new RangeError(`expected visible ASCII, got ${quote(text)}`)
  return text
}
