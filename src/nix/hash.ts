import { decodeBase64 } from './base64.ts'
import { decodeNix32, encodeNix32 } from './nix32.ts'
import { quote } from './quote.ts'

/** A SHA-256 as 52 characters of nix32, without prefix. */
export type Sha256 = string & { readonly __sha256: true }

/** The Sha256 of an uncompressed NAR: the key of everything in narswarm. */
export type NarHash = Sha256 & { readonly __narHash: true }

const SHA256_BYTES = 32

/** 52 digits hold 260 bits: the first is 0 or 1, or it would carry padding bits that are not zero. */
const NAR_HASH = /^[01][0-9a-df-np-sv-z]{51}$/
const BASE16 = /^[0-9a-fA-F]+$/

/**
 * A SHA-256 as Nix and real caches spell it: `sha256:` and nix32, base16 or base64, or SRI `sha256-` and base64.
 * (nix-protocol A3; libutil/hash.cc tells the spellings apart by their lengths, as we do.)
 * @throws RangeError on another algorithm or a malformed digest
 */
export function parseNarHash(text: string): NarHash {
  if (text.startsWith('sha256-')) return narHashFromDigest(decodeBase64(text.slice(7), SHA256_BYTES))
  if (!text.startsWith('sha256:')) throw new RangeError(`hash: expected "sha256:…", got ${quote(text)}`)
  return narHashFromDigest(decodeDigest(text.slice(7), SHA256_BYTES))
}

/** `sha256:` and nix32, as it stands in narinfos and fingerprints. */
export function formatNarHash(hash: Sha256): string {
  return `sha256:${hash}`
}

export function isNarHash(text: string): text is NarHash {
  return NAR_HASH.test(text)
}

/** @throws RangeError unless `digest` has 32 bytes */
export function narHashFromDigest(digest: Uint8Array): NarHash {
  if (digest.length !== SHA256_BYTES) {
    throw new RangeError(`hash: a SHA-256 has ${SHA256_BYTES} bytes, got ${digest.length}`)
  }
  // A 32-byte digest encodes to exactly the form that isNarHash takes.
  return encodeNix32(digest) as NarHash
}

/** The 32 bytes. */
export function narHashDigest(hash: NarHash): Uint8Array {
  return decodeNix32(hash, SHA256_BYTES)
}

/**
 * A digest without its prefix in base16, nix32 or padded base64, told apart by length as Nix does.
 * @throws RangeError
 */
export function decodeDigest(text: string, byteLength: number): Uint8Array {
  switch (text.length) {
    case byteLength * 2:
      if (!BASE16.test(text)) throw new RangeError(`hash: a character is not base16: ${quote(text)}`)
      return Uint8Array.from(Buffer.from(text, 'hex'))
    case Math.ceil((byteLength * 8) / 5):
      return decodeNix32(text, byteLength)
    case Math.ceil(byteLength / 3) * 4:
      return decodeBase64(text, byteLength)
    default:
      throw new RangeError(
        `hash: ${text.length} characters are no base16, nix32 or base64 of ${byteLength} bytes: ${quote(text)}`,
      )
  }
}
