/** C2SP signed-note, and C2SP tlog-cosignature for signatures with a time. */
import { FEED_NOTE_MAX_BYTES, FEED_NOTE_MAX_SIGNATURES } from '../limits.ts'
import { encodeBase64 } from '../nix/base64.ts'
import { quote } from '../nix/quote.ts'
import { sign, verify } from '../nix/signature.ts'
import { decodeBase64 } from './base64.ts'
import { FeedFormatError, FeedSignatureError } from './errors.ts'
import { decodeUtf8, encodeUtf8 } from './text.ts'
import { COSIGNER_KEY, formatVkey, isKeyName, type FeedPublicKey, type FeedSecretKey } from './vkey.ts'

export interface Note {
  /** With its final newline, without the blank line. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

export interface NoteSignature {
  readonly name: string
  readonly id: number
  /** What follows the key id: 64 bytes of Ed25519, before them 8 bytes of time in a cosignature. */
  readonly bytes: Uint8Array
}

/** A signature that holds, by a key that was asked for. */
export interface GoodSignature {
  readonly key: FeedPublicKey
  /** Unix seconds; cosignatures only. */
  readonly time?: number
}

const ID_BYTES = 4
const TIME_BYTES = 8
const SIGNATURE_BYTES = 64

/**
 * Takes up to 32 signatures and 64 KiB. Two signatures of one name and key id are refused: only one of them could ever
 * count.
 *
 * @throws FeedFormatError
 */
export function parseNote(bytes: Uint8Array): Note {
  if (bytes.length > FEED_NOTE_MAX_BYTES) {
    throw new FeedFormatError(`note: expected at most ${FEED_NOTE_MAX_BYTES} bytes, got ${bytes.length}`)
  }
  const whole = decodeUtf8(bytes, 'note')
  const control = firstControl(whole)
  if (control !== undefined) {
    throw new FeedFormatError(
      `note: control character U+00${hexByte(whole.charCodeAt(control))} at ${control}`,
    )
  }
  // The last empty line parts text and signatures: the text may hold empty lines of its own.
  const end = whole.lastIndexOf('\n\n')
  if (end < 1) throw new FeedFormatError('note: expected text, a blank line and signatures')
  const text = whole.slice(0, end + 1)
  const lines = whole.slice(end + 2).split('\n')
  if (lines.pop() !== '' || lines.length === 0) {
    throw new FeedFormatError('note: expected signature lines, each ending in a newline')
  }
  if (lines.length > FEED_NOTE_MAX_SIGNATURES) {
    throw new FeedFormatError(
      `note: expected at most ${FEED_NOTE_MAX_SIGNATURES} signatures, got ${lines.length}`,
    )
  }
  const signatures = lines.map(parseSignatureLine)
  const seen = new Set(signatures.map(({ name, id }) => `${name} ${id}`))
  if (seen.size !== signatures.length) throw new FeedFormatError('note: two signatures by one key')
  return { text, signatures }
}

export function formatNote({ text, signatures }: Note): Uint8Array {
  const lines = signatures.map(({ name, id, bytes }) => {
    const idBytes = Buffer.allocUnsafe(ID_BYTES)
    idBytes.writeUInt32BE(id)
    return `— ${name} ${encodeBase64(Buffer.concat([idBytes, bytes]))}\n`
  })
  return encodeUtf8(`${text}\n${lines.join('')}`)
}

/** @param time Unix seconds; signed in by cosigner keys (type 4), ignored by others */
export function signText(text: string, key: FeedSecretKey, time: number): NoteSignature {
  const { name, id, type } = key.publicKey
  if (type !== COSIGNER_KEY) return { name, id, bytes: sign(key.secret, text).bytes }
  const timeBytes = Buffer.allocUnsafe(TIME_BYTES)
  timeBytes.writeBigUInt64BE(BigInt(time))
  return { name, id, bytes: Buffer.concat([timeBytes, sign(key.secret, cosignedText(text, time)).bytes]) }
}

/**
 * The good signatures by `keys`. Those of unknown keys are passed over, as the specification asks for: that is what makes
 * key changes and witnesses possible.
 *
 * @throws FeedSignatureError when a known key's signature is bad, or there is none
 */
export function verifyNote(note: Note, keys: readonly FeedPublicKey[]): GoodSignature[] {
  const good: GoodSignature[] = []
  for (const signature of note.signatures) {
    const key = keys.find(({ name, id }) => name === signature.name && id === signature.id)
    if (key !== undefined) good.push(verifySignature(note.text, signature, key))
  }
  if (good.length === 0) {
    throw new FeedSignatureError(
      `note: expected a signature by ${keys.map(formatVkey).join(' or ')}, got ${note.signatures.map(({ name }) => quote(name)).join(', ')}`,
    )
  }
  return good
}

function verifySignature(text: string, signature: NoteSignature, key: FeedPublicKey): GoodSignature {
  const bad = (reason: string) => new FeedSignatureError(`note: signature by ${quote(key.name)}: ${reason}`)
  const timed = key.type === COSIGNER_KEY
  const length = timed ? TIME_BYTES + SIGNATURE_BYTES : SIGNATURE_BYTES
  if (signature.bytes.length !== length) throw bad(`expected ${length} bytes, got ${signature.bytes.length}`)
  if (!timed) {
    if (!verify(key.key, text, { keyName: key.key.name, bytes: signature.bytes }))
      throw bad('does not verify')
    return { key }
  }
  const { buffer, byteOffset } = signature.bytes
  const seconds = new DataView(buffer, byteOffset).getBigUint64(0)
  // Zero is what tlog-cosignature keeps for "no statement"; above 2^53 a number is no longer exact.
  if (seconds < 1n || seconds > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(`time ${seconds} is out of range`)
  const time = Number(seconds)
  const bytes = signature.bytes.subarray(TIME_BYTES)
  if (!verify(key.key, cosignedText(text, time), { keyName: key.key.name, bytes }))
    throw bad('does not verify')
  return { key, time }
}

/** C2SP tlog-cosignature, "Ed25519 signed message". */
function cosignedText(text: string, time: number): string {
  return `cosignature/v1\ntime ${time}\n${text}`
}

function parseSignatureLine(line: string, at: number): NoteSignature {
  const [dash, name = '', base64 = '', ...rest] = line.split(' ')
  const bytes = decodeBase64(base64)
  if (
    dash !== '—' ||
    rest.length > 0 ||
    !isKeyName(name) ||
    bytes === undefined ||
    bytes.length <= ID_BYTES
  ) {
    throw new FeedFormatError(`note: signature ${at + 1}: expected "— <name> <base64>", got ${quote(line)}`)
  }
  const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
  return { name, id, bytes: bytes.subarray(ID_BYTES) }
}

/** Below U+0020, other than newline. */
function firstControl(text: string): number | undefined {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code < 0x20 && code !== 0x0a) return at
  }
  return undefined
}

function hexByte(code: number): string {
  return code.toString(16).padStart(2, '0')
}
