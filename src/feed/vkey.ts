/** Keys of a feed: C2SP signed-note verifier keys, and private keys as Go's note package writes them. Never Nix keys. */
import { createHash } from 'node:crypto'
import { encodeBase64 } from '../nix/base64.ts'
import { generateSecretKey, parsePublicKey, type PublicKey, type SecretKey } from '../nix/key.ts'
import { quote } from '../nix/quote.ts'
import { decodeBase64 } from './base64.ts'
import { FeedFormatError, FeedKeyError } from './errors.ts'

/** C2SP signed-note, "Signature types": 1 is Ed25519 over the text, 4 an Ed25519 cosignature with a time. */
export type KeyType = 1 | 4
export const LOG_KEY = 1
export const COSIGNER_KEY = 4

export interface FeedPublicKey {
  readonly name: string
  readonly type: KeyType
  /** First 32 bits of SHA-256(name, newline, type, public key): tells keys apart, proves nothing. */
  readonly id: number
  readonly key: PublicKey
}

export interface FeedSecretKey {
  readonly publicKey: FeedPublicKey
  readonly secret: SecretKey
}

const KEY_BYTES = 32
const PRIVATE_KEY_PREFIX = 'PRIVATE+KEY+'
/** Key names here are `<feed name>/<purpose>` or a log's origin; a feed name has at most 128 characters. */
const MAX_NAME_CHARS = 255

/** Whether a signed note may carry `name` (C2SP signed-note, "Format"). */
export function isKeyName(name: string): boolean {
  // \s lacks U+0085, which Unicode counts as a space.
  return name.length > 0 && name.length <= MAX_NAME_CHARS && !/[\s\u0085+]/u.test(name)
}

/**
 * `<name>+<key id, 8 hex digits>+<base64 of type and key>`.
 *
 * @throws FeedFormatError also on points that anyone can sign for
 */
export function parseVkey(text: string): FeedPublicKey {
  const fail = (reason: string, cause?: unknown) =>
    new FeedFormatError(`vkey ${quote(text)}: ${reason}`, { cause })
  const parts = text.split('+')
  const [name = '', id = ''] = parts
  // The base64 may have + in it.
  const bytes = decodeBase64(parts.slice(2).join('+'))
  if (!isKeyName(name) || bytes === undefined) throw fail('expected <name>+<key id>+<base64>')
  const type = bytes[0]
  if (type !== LOG_KEY && type !== COSIGNER_KEY) throw fail(`expected key type 1 or 4, got ${type}`)
  if (bytes.length !== 1 + KEY_BYTES)
    throw fail(`expected a key of ${KEY_BYTES} bytes, got ${bytes.length - 1}`)
  let key: PublicKey
  try {
    key = parsePublicKey(`${name}:${encodeBase64(bytes.subarray(1))}`)
  } catch (cause) {
    throw fail('not a usable Ed25519 key', cause)
  }
  const publicKey = feedPublicKey(type, key)
  if (formatId(publicKey.id) !== id) throw fail(`expected key id ${formatId(publicKey.id)}`)
  return publicKey
}

export function formatVkey(publicKey: FeedPublicKey): string {
  return `${publicKey.name}+${formatId(publicKey.id)}+${encodeBase64(typed(publicKey.type, publicKey.key.bytes))}`
}

/** @throws FeedKeyError */
export function generateFeedKey(
  name: string,
  type: KeyType,
  randomBytes: (n: number) => Uint8Array,
): FeedSecretKey {
  if (!isKeyName(name)) throw new FeedKeyError(`key name: expected no space and no +, got ${quote(name)}`)
  const secret = generateSecretKey(name, randomBytes)
  return { publicKey: feedPublicKey(type, secret.publicKey), secret }
}

/** `PRIVATE+KEY+<name>+<key id>+<base64 of type and seed>`. For a file of mode 0400 and nowhere else. */
export function formatFeedSecretKey({ publicKey, secret }: FeedSecretKey): string {
  return `${PRIVATE_KEY_PREFIX}${publicKey.name}+${formatId(publicKey.id)}+${encodeBase64(typed(publicKey.type, secret.seed))}`
}

/**
 * A final newline is taken.
 *
 * @throws FeedKeyError, which never quotes the text
 */
export function parseFeedSecretKey(text: string): FeedSecretKey {
  const fail = () =>
    new FeedKeyError('feed key: expected PRIVATE+KEY+<name>+<key id>+<base64> of type 1 or 4')
  const line = text.replace(/\n$/, '')
  if (!line.startsWith(PRIVATE_KEY_PREFIX)) throw fail()
  const parts = line.slice(PRIVATE_KEY_PREFIX.length).split('+')
  const [name = '', id = ''] = parts
  const bytes = decodeBase64(parts.slice(2).join('+'))
  const type = bytes?.[0]
  if (bytes?.length !== 1 + KEY_BYTES || (type !== LOG_KEY && type !== COSIGNER_KEY)) throw fail()
  const key = generateFeedKey(name, type, () => bytes.subarray(1))
  if (formatId(key.publicKey.id) !== id)
    throw new FeedKeyError('feed key: its key id is not that of its bytes')
  return key
}

function feedPublicKey(type: KeyType, key: PublicKey): FeedPublicKey {
  const digest = createHash('sha256').update(`${key.name}\n`).update(typed(type, key.bytes)).digest()
  return { name: key.name, type, id: digest.readUInt32BE(), key }
}

function typed(type: KeyType, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(type), bytes])
}

function formatId(id: number): string {
  return id.toString(16).padStart(8, '0')
}
