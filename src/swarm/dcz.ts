/** Dictionary-compressed Zstandard (RFC 9842), where the dictionary is a block: docs/spec/dcz-leaves.md. */

/** RFC 9842 section 5: to a decoder of zstd a skippable frame of 32 bytes. The dictionary's SHA-256 is in it. */
const MAGIC = Buffer.from('5e2a4d1820000000', 'hex')
const DIGEST_BYTES = 32
export const DCZ_HEADER_BYTES = MAGIC.length + DIGEST_BYTES
/** RFC 8878 section 6. */
const TRAINED = Buffer.from('37a430ec', 'hex')

/** The lower-case name of the request header, as Vary and undici have it. */
export const AVAILABLE_DICTIONARY = 'available-dictionary'

/** Whether who sent this `Vary` knows what to do with the name of a dictionary. */
export function knowsDictionaries(vary: string): boolean {
  return vary.toLowerCase().includes(AVAILABLE_DICTIONARY)
}

/** @param digest of the dictionary that the frame was made with */
export function dczBody(digest: Uint8Array, frame: Uint8Array): Uint8Array {
  // Of its own size: the body is kept, and a part of Node's pool would keep all of it.
  const body = new Uint8Array(DCZ_HEADER_BYTES + frame.length)
  body.set(MAGIC)
  body.set(digest, MAGIC.length)
  body.set(frame, DCZ_HEADER_BYTES)
  return body
}

export function isDczHeader(header: Uint8Array, digest: Uint8Array): boolean {
  return Buffer.compare(header, Buffer.concat([MAGIC, digest])) === 0
}

/**
 * RFC 9842 wants the bytes as they are. Node, as zstd itself, takes those that begin like a trained dictionary for one, and
 * cannot be told otherwise.
 */
export function isPlainDictionary(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(0, TRAINED.length), TRAINED) !== 0
}

/** Value of the request header, a byte sequence (RFC 8941 3.3.5). */
export function formatAvailableDictionary(digest: Uint8Array): string {
  return `:${Buffer.from(digest).toString('base64')}:`
}

/** @returns the SHA-256; undefined when there is none, or something else */
export function parseAvailableDictionary(header: string | undefined): Uint8Array | undefined {
  const [, text] = /^[ \t]*:([A-Za-z0-9+/]{43}=):[ \t]*$/.exec(header ?? '') ?? []
  return text === undefined ? undefined : Buffer.from(text, 'base64')
}
