/**
 * The framing of a NAR, and the rules for names and link targets that its writer and its reader both hold.
 * Nix manual, "Nix Archive (NAR) format"; bounds from libutil/archive.cc of Nix 2.34.8.
 */
import { NAR_MAX_NAME_BYTES, NAR_MAX_TARGET_BYTES } from '../limits.ts'
import { quote } from './quote.ts'

export const NAR_MAGIC = 'nix-archive-1'
/** A string's length comes before it as an unsigned 64-bit little-endian number. */
export const NAR_LENGTH_BYTES = 8

const ALIGNMENT_BYTES = 8

/** Zero bytes after a string of `length` bytes: 0 to 7. No bit operations: file contents pass 2^31. */
export function narPadding(length: number): number {
  return (ALIGNMENT_BYTES - (length % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES
}

/** The given ASCII strings, framed, end to end. */
export function narStrings(...texts: readonly string[]): Uint8Array {
  const size = texts.reduce((sum, { length }) => sum + NAR_LENGTH_BYTES + length + narPadding(length), 0)
  const framed = Buffer.alloc(size)
  let at = 0
  for (const text of texts) {
    framed.writeUInt32LE(text.length, at)
    framed.write(text, at + NAR_LENGTH_BYTES, 'latin1')
    at += NAR_LENGTH_BYTES + text.length + narPadding(text.length)
  }
  return framed
}

/**
 * What is wrong with the name of a directory entry, or undefined. Names are bytes: non-UTF-8, newline, backslash and
 * the case hack's suffix are all legal.
 */
export function narNameFault(name: Uint8Array): string | undefined {
  if (name.length === 0) return 'is empty'
  if (name.length > NAR_MAX_NAME_BYTES)
    return `has ${name.length} bytes, at most ${NAR_MAX_NAME_BYTES} are allowed`
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) return 'is . or ..'
  if (name.includes(0x2f)) return 'contains a slash'
  if (name.includes(0)) return 'contains a NUL'
  return undefined
}

/** What is wrong with the target of a symlink, or undefined. */
export function narTargetFault(target: Uint8Array): string | undefined {
  if (target.length === 0) return 'is empty'
  if (target.length > NAR_MAX_TARGET_BYTES)
    return `has ${target.length} bytes, at most ${NAR_MAX_TARGET_BYTES} are allowed`
  if (target.includes(0)) return 'contains a NUL'
  return undefined
}

/** Hostile bytes for an error message; what is not UTF-8 in them shows as U+FFFD. */
export function quoteBytes(bytes: Uint8Array): string {
  return quote(Buffer.from(bytes).toString())
}
