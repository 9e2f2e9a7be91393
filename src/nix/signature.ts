import { createPublicKey, verify as verifyWithNode } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { decodeBase64, encodeBase64 } from './base64.ts'
import { ed25519 } from './ed25519.ts'
import { parseKeyName } from './key.ts'
import type { KeyName, PublicKey, SecretKey } from './key.ts'
import { quote } from './quote.ts'

export interface Signature {
  readonly keyName: KeyName
  /** 64 bytes, always. */
  readonly bytes: Uint8Array
}

const SIGNATURE_BYTES = 64

/** RFC 8410 section 4: SubjectPublicKeyInfo of id-Ed25519, up to the 32 bytes of the key. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

const keyObjects = new WeakMap<PublicKey, KeyObject>()

/**
 * `name:base64(64 bytes)`, the value of a Sig line (nix-protocol A4).
 * @throws RangeError
 */
export function parseSignature(text: string): Signature {
  const colon = text.indexOf(':')
  if (colon < 0) throw new RangeError(`signature: expected name:base64, there is no ':': ${quote(text)}`)
  return {
    keyName: parseKeyName(text.slice(0, colon)),
    bytes: decodeBase64(text.slice(colon + 1), SIGNATURE_BYTES),
  }
}

export function formatSignature(signature: Signature): string {
  return `${signature.keyName}:${encodeBase64(signature.bytes)}`
}

/** Deterministic (RFC 8032 section 5.1.6), so equal to Nix's own for the same key and text. */
export function sign(secretKey: SecretKey, text: string): Signature {
  return { keyName: secretKey.name, bytes: ed25519().sign(Buffer.from(text, 'utf8'), secretKey.seed) }
}

/**
 * Whether `signature` is `publicKey`'s over `text`. Another key name is false whatever the bytes say: Nix finds keys
 * by name too. By node:crypto, some fifteen times as fast as noble here; that its leniency towards low-order keys
 * differs by version of OpenSSL does not matter, since parsePublicKey lets none in.
 */
export function verify(publicKey: PublicKey, text: string, signature: Signature): boolean {
  if (signature.keyName !== publicKey.name) return false
  return verifyWithNode(null, Buffer.from(text, 'utf8'), keyObjectOf(publicKey), signature.bytes)
}

function keyObjectOf(publicKey: PublicKey): KeyObject {
  const known = keyObjects.get(publicKey)
  if (known !== undefined) return known
  const key = Buffer.concat([SPKI_PREFIX, publicKey.bytes])
  const made = createPublicKey({ key, format: 'der', type: 'spki' })
  keyObjects.set(publicKey, made)
  return made
}
