import { Point } from '@noble/ed25519'
import { decodeBase64, encodeBase64 } from './base64.ts'
import { ed25519 } from './ed25519.ts'
import { quote } from './quote.ts'

/** What stands before the ':' of a key or signature: `cache.nixos.org-1`. Visible ASCII without ':'. */
export type KeyName = string & { readonly __keyName: true }

export interface PublicKey {
  readonly name: KeyName
  /** 32 bytes, RFC 8032: canonical, on the curve and of the prime-order group. */
  readonly bytes: Uint8Array
}

export interface SecretKey {
  readonly name: KeyName
  /** 32 bytes, RFC 8032. Not enumerable: a key that strays into a log line or JSON shows no secret there. */
  readonly seed: Uint8Array
  readonly publicKey: PublicKey
}

/** By name, as Nix looks them up: one key a name. */
export type TrustedKeys = ReadonlyMap<KeyName, PublicKey>

/** A key that cannot be used. Its message holds the key's name at most, never its bytes. */
export class KeyError extends Error {
  override readonly name = 'KeyError'
}

const PUBLIC_KEY_BYTES = 32
const SEED_BYTES = 32
/** libsodium's form, which Nix writes: the seed, then the public key. */
const SECRET_KEY_BYTES = SEED_BYTES + PUBLIC_KEY_BYTES

/** Nix takes any text; its database separates signatures by spaces, so a name with one cannot have worked. */
const KEY_NAME = /^[!-9;-~]{1,255}$/
/** A text whose halves were swapped has its secret before the ':'; no real name is so long. */
const SHOWN_NAME_MAX_CHARS = 40

/** @throws RangeError */
export function parseKeyName(text: string): KeyName {
  if (!KEY_NAME.test(text)) {
    throw new RangeError("key name: expected 1 to 255 visible ASCII characters without ':'")
  }
  return text as KeyName
}

/**
 * `name:base64(32 bytes)`, as in trusted-public-keys.
 * @throws KeyError on malformed text and on points for which anyone can sign: OpenSSL 3.0.19 takes such signatures,
 * 3.5.8 does not (security 0.10)
 */
export function parsePublicKey(text: string): PublicKey {
  const { name, data } = splitKey(text, 'public key')
  return checkedPublicKey(name, decodeKey(name, data, PUBLIC_KEY_BYTES, 'public key'))
}

export function formatPublicKey(key: PublicKey): string {
  return `${key.name}:${encodeBase64(key.bytes)}`
}

/**
 * `name:base64(64 bytes)`, as `nix-store --generate-binary-cache-key` writes it; a final newline is taken.
 * @throws KeyError also when the two halves do not belong together: signatures made with such a key betray its seed
 */
export function parseSecretKey(text: string): SecretKey {
  const { name, data } = splitKey(text.replace(/\n$/, ''), 'secret key')
  const bytes = decodeKey(name, data, SECRET_KEY_BYTES, 'secret key')
  const key = secretKeyFromSeed(name, bytes.slice(0, SEED_BYTES))
  if (!Buffer.from(key.publicKey.bytes).equals(bytes.subarray(SEED_BYTES))) {
    throw new KeyError(`secret key${shownName(name)}: its public half does not belong to its seed`)
  }
  return key
}

/** For a file of mode 0400 and nowhere else. */
export function formatSecretKey(key: SecretKey): string {
  return `${key.name}:${encodeBase64(Buffer.concat([key.seed, key.publicKey.bytes]))}`
}

/** @throws KeyError when `name` is no key name or `randomBytes` gives another length than asked */
export function generateSecretKey(name: string, randomBytes: (n: number) => Uint8Array): SecretKey {
  const seed = Uint8Array.from(randomBytes(SEED_BYTES))
  if (seed.length !== SEED_BYTES) {
    throw new KeyError(`secret key: asked for ${SEED_BYTES} random bytes, got ${seed.length}`)
  }
  return secretKeyFromSeed(keyName(name, 'secret key'), seed)
}

/** @throws KeyError when two different keys have one name: only one could ever be found */
export function trustedKeys(keys: readonly PublicKey[]): TrustedKeys {
  const byName = new Map<KeyName, PublicKey>()
  for (const key of keys) {
    const other = byName.get(key.name)
    if (other !== undefined && !Buffer.from(other.bytes).equals(key.bytes)) {
      throw new KeyError(`trusted keys: two different keys are named ${quote(key.name)}`)
    }
    byName.set(key.name, key)
  }
  return byName
}

function secretKeyFromSeed(name: KeyName, seed: Uint8Array): SecretKey {
  const publicKey: PublicKey = { name, bytes: ed25519().getPublicKey(seed) }
  const key = { name, publicKey }
  return Object.defineProperty(key, 'seed', { value: seed }) as SecretKey
}

/**
 * A real public key is a multiple of the base point. noble's strict decoding (zip215 false) refuses y >= p and
 * "-0"; what is left are the eight small-order points, for which anyone can make signatures, and sums with them,
 * on which verifiers disagree.
 */
function checkedPublicKey(name: KeyName, bytes: Uint8Array): PublicKey {
  let point: Point
  try {
    point = Point.fromBytes(bytes, false)
  } catch (cause) {
    throw new KeyError(`public key${shownName(name)}: not a canonical point of Ed25519`, { cause })
  }
  if (point.isSmallOrder()) throw new KeyError(`public key${shownName(name)}: a point of small order`)
  if (!point.isTorsionFree()) {
    throw new KeyError(`public key${shownName(name)}: not a point of the prime-order group`)
  }
  return { name, bytes }
}

type KeyKind = 'public key' | 'secret key'

/** The text is not quoted when it has no ':', since it may be a secret. */
function splitKey(text: string, kind: KeyKind): { name: KeyName; data: string } {
  const colon = text.indexOf(':')
  if (colon < 0) throw new KeyError(`${kind}: expected name:base64, there is no ':'`)
  return { name: keyName(text.slice(0, colon), kind), data: text.slice(colon + 1) }
}

function keyName(text: string, kind: KeyKind): KeyName {
  try {
    return parseKeyName(text)
  } catch (cause) {
    throw new KeyError(`${kind}: expected a name of 1 to 255 visible ASCII characters before the ':'`, {
      cause,
    })
  }
}

function decodeKey(name: KeyName, data: string, byteLength: number, kind: KeyKind): Uint8Array {
  try {
    return decodeBase64(data, byteLength, 'secret')
  } catch (cause) {
    throw new KeyError(`${kind}${shownName(name)}: expected base64 of ${byteLength} bytes after the ':'`, {
      cause,
    })
  }
}

function shownName(name: KeyName): string {
  return name.length <= SHOWN_NAME_MAX_CHARS ? ` ${quote(name)}` : ''
}
