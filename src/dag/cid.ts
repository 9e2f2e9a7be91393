/**
 * The only CIDs there are here: CIDv1, sha2-256 with all 32 bytes, codec raw (a leaf) or dag-pb (an interior node).
 * Identity CIDs carry their bytes in themselves, truncated and foreign hashes prove less than they seem to, and a
 * wrong codec makes one block read as two different things: all of them are refused [security 3 F8, F9].
 *
 * Never compare with `instanceof`: Helia may bring a second copy of multiformats.
 */
import { hash } from 'node:crypto'
import { base32 } from 'multiformats/bases/base32'
import { CID } from 'multiformats/cid'
import { create as createDigest } from 'multiformats/hashes/digest'
import { quote } from '../nix/quote.ts'

export const RAW_CODE = 0x55
export const DAG_PB_CODE = 0x70
const SHA2_256_CODE = 0x12

export const DIGEST_BYTES = 32
/** Version, codec, hash code and hash length are one byte each. */
export const CID_BYTES = 4 + DIGEST_BYTES
/** `b` and 36 bytes at 5 bits a character. */
const CID_TEXT_CHARS = 59

/** A CID that is well formed elsewhere, or not at all, and cannot be a block of a NAR. */
export class CidError extends Error {
  override readonly name = 'CidError'
}

/**
 * Canonical text only: multibase `b`, lower case, zero padding bits, no path and no `ipfs://`. The gateways' probe
 * `bafkqaaa` is an identity CID and refused like any other.
 *
 * @throws CidError
 */
export function parseCid(text: string): CID {
  if (text.length !== CID_TEXT_CHARS || !/^b[a-z2-7]+$/.test(text)) {
    throw new CidError(
      `expected a CIDv1 of ${CID_TEXT_CHARS} characters, base32 in lower case, got ${quote(text)}`,
    )
  }
  let bytes: Uint8Array
  try {
    bytes = base32.decode(text)
  } catch (cause) {
    throw new CidError(`expected a CIDv1 in canonical base32, got ${quote(text)}`, { cause })
  }
  const cid = decodeCid(bytes)
  // A decoder that drops the two padding bits would give one CID four spellings.
  if (base32.encode(cid.bytes) !== text)
    throw new CidError(`the CID ${quote(text)} is not in its canonical form`)
  return cid
}

/**
 * Of exactly {@link CID_BYTES} bytes. The prefix is compared as bytes, so no varint has two spellings.
 *
 * @throws CidError
 */
export function decodeCid(bytes: Uint8Array): CID {
  if (bytes.length !== CID_BYTES) {
    throw new CidError(`expected a CIDv1 of ${CID_BYTES} bytes (sha2-256), got ${bytes.length} bytes`)
  }
  const code = bytes[1]
  if (
    bytes[0] !== 1 ||
    (code !== RAW_CODE && code !== DAG_PB_CODE) ||
    bytes[2] !== SHA2_256_CODE ||
    bytes[3] !== DIGEST_BYTES
  ) {
    const prefix = Buffer.from(bytes.subarray(0, 4)).toString('hex')
    throw new CidError(
      `expected a CIDv1 prefix 01551220 (raw) or 01701220 (dag-pb) with sha2-256, got ${prefix}`,
    )
  }
  return createCid(code, bytes.subarray(4))
}

/**
 * The same rules for a CID that a library decoded.
 *
 * @throws CidError
 */
export function checkCid(cid: CID): CID {
  const { version, code, multihash } = cid
  const wellFormed =
    version === 1 &&
    (code === RAW_CODE || code === DAG_PB_CODE) &&
    multihash.code === SHA2_256_CODE &&
    multihash.digest.length === DIGEST_BYTES &&
    cid.bytes.length === CID_BYTES
  if (!wellFormed) {
    throw new CidError(
      'expected a CIDv1, raw (0x55) or dag-pb (0x70), sha2-256 (0x12) of 32 bytes, got ' +
        `version ${version}, codec 0x${code.toString(16)}, hash 0x${multihash.code.toString(16)} of ${multihash.digest.length} bytes`,
    )
  }
  return cid
}

/** Of a leaf. @throws RangeError when the digest is not of 32 bytes */
export function rawCid(digest: Uint8Array): CID {
  return createCid(RAW_CODE, digest)
}

/** Of an interior node. @throws RangeError when the digest is not of 32 bytes */
export function nodeCid(digest: Uint8Array): CID {
  return createCid(DAG_PB_CODE, digest)
}

/**
 * Whether sha256 of the bytes is the CID's digest. Says nothing about what the bytes mean.
 *
 * @param digest their sha256, when they were hashed already
 */
export function blockMatches(cid: CID, bytes: Uint8Array, digest: Uint8Array = sha256(bytes)): boolean {
  return cid.multihash.code === SHA2_256_CODE && Buffer.compare(digest, cid.multihash.digest) === 0
}

export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

function createCid(code: number, digest: Uint8Array): CID {
  if (digest.length !== DIGEST_BYTES) {
    throw new RangeError(`expected a sha256 digest of ${DIGEST_BYTES} bytes, got ${digest.length}`)
  }
  return CID.createV1(code, createDigest(SHA2_256_CODE, digest))
}
