import { quote } from './quote.ts'

/** 32 characters of nix32: the truncated hash that starts a store path's base name. */
export type HashPart = string & { readonly __hashPart: true }

/** The base name `<hash part>-<name>`, as in Nix's own StorePath class: the store directory is not part of it. */
export type StorePath = string & { readonly __storePath: true }

export const HASH_PART_CHARS = 32
/** nix-protocol A3. */
const NAME_MAX_CHARS = 211

const HASH_PART = /^[0-9a-df-np-sv-z]{32}$/
const NAME = /^[0-9A-Za-z+._?=-]+$/
/** The newest Nix refuses just these (libstore/path.cc); versions differ, 2.8.0 takes even them. */
const DOT_NAME = /^\.\.?(?:-|$)/

export function isHashPart(text: string): text is HashPart {
  return HASH_PART.test(text)
}

/**
 * An absolute store path, exactly `storeDir`, a slash and a base name: nothing below it, nothing folded.
 * @throws RangeError
 */
export function parseStorePath(text: string, storeDir: string): StorePath {
  if (!text.startsWith(`${storeDir}/`)) {
    throw new RangeError(`store path: expected one in ${storeDir}, got ${quote(text)}`)
  }
  return parseStorePathBaseName(text.slice(storeDir.length + 1))
}

/**
 * A base name by the rules of the newest Nix.
 * @throws RangeError
 */
export function parseStorePathBaseName(text: string): StorePath {
  const fault = faultOf(text)
  if (fault !== undefined) throw new RangeError(`store path: ${fault}: ${quote(text)}`)
  return text as StorePath
}

export function isStorePathBaseName(text: string): text is StorePath {
  return faultOf(text) === undefined
}

function faultOf(text: string): string | undefined {
  if (!isHashPart(text.slice(0, HASH_PART_CHARS))) return 'does not start with 32 characters of nix32'
  if (text.charAt(HASH_PART_CHARS) !== '-') return "no '-' after the hash part"
  const name = text.slice(HASH_PART_CHARS + 1)
  if (name.length === 0) return 'the name is empty'
  if (name.length > NAME_MAX_CHARS)
    return `the name has ${name.length} characters, ${NAME_MAX_CHARS} are allowed`
  if (!NAME.test(name)) return 'the name has a character outside 0-9 A-Z a-z + - . _ ? ='
  if (DOT_NAME.test(name)) return "the name is or starts with '.' or '..' before a dash"
  return undefined
}

export function formatStorePath(path: StorePath, storeDir: string): string {
  return `${storeDir}/${path}`
}

export function hashPartOf(path: StorePath): HashPart {
  return path.slice(0, HASH_PART_CHARS) as HashPart
}

/** The name after the hash part: `hello-2.12.1`. */
export function nameOf(path: StorePath): string {
  return path.slice(HASH_PART_CHARS + 1)
}
