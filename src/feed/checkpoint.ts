/** C2SP tlog-checkpoint: the head of a log. Three lines and no extension lines, since witnesses do not vouch for those. */
import { encodeBase64 } from '../nix/base64.ts'
import { quote } from '../nix/quote.ts'
import { decodeBase64 } from './base64.ts'
import { parseDecimal } from './decimal.ts'
import { FeedFormatError, FeedRefusedError, FeedSignatureError } from './errors.ts'
import { HASH_BYTES } from './merkle.ts'
import { formatNote, parseNote, signText, verifyNote } from './note.ts'
import type { FeedPublicKey, FeedSecretKey } from './vkey.ts'

export interface Checkpoint {
  readonly origin: string
  /** Entries in the log. */
  readonly size: number
  /** 32 bytes. */
  readonly rootHash: Uint8Array
}

/** A checkpoint whose log and heartbeat signatures, and witness quorum, hold. */
export interface SignedCheckpoint extends Checkpoint {
  /** Unix seconds at which the heartbeat key said that this is the head. */
  readonly time: number
  /** The note, as it came. */
  readonly bytes: Uint8Array
}

/** Whose signatures make a checkpoint a head of the feed. */
export interface CheckpointKeys {
  readonly origin: string
  readonly log: FeedPublicKey
  readonly heartbeat: FeedPublicKey
  readonly witnesses: readonly FeedPublicKey[]
  /** How many witnesses must have signed. */
  readonly quorum: number
}

function formatCheckpoint({ origin, size, rootHash }: Checkpoint): string {
  return `${origin}\n${size}\n${encodeBase64(rootHash)}\n`
}

/** @throws FeedFormatError */
export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split('\n')
  const [origin = '', sizeText = '', hashText = '', end] = lines
  if (lines.length !== 4 || end !== '') {
    throw new FeedFormatError(
      `checkpoint: expected origin, size and root hash, got ${lines.length - 1} lines`,
    )
  }
  if (origin === '') throw new FeedFormatError('checkpoint: line 1: expected an origin, got ""')
  const size = parseDecimal(sizeText)
  if (size === undefined) {
    throw new FeedFormatError(`checkpoint: line 2: expected a decimal below 2^53, got ${quote(sizeText)}`)
  }
  const rootHash = decodeBase64(hashText)
  if (rootHash?.length !== HASH_BYTES) {
    throw new FeedFormatError(
      `checkpoint: line 3: expected base64 of ${HASH_BYTES} bytes, got ${quote(hashText)}`,
    )
  }
  return { origin, size, rootHash }
}

/** @param time Unix seconds, for the heartbeat */
export function signCheckpoint(
  checkpoint: Checkpoint,
  keys: { log: FeedSecretKey; heartbeat: FeedSecretKey },
  time: number,
): Uint8Array {
  const text = formatCheckpoint(checkpoint)
  return formatNote({
    text,
    signatures: [signText(text, keys.log, time), signText(text, keys.heartbeat, time)],
  })
}

/**
 * Reads a checkpoint of the feed that `keys` belong to.
 *
 * @throws FeedFormatError, FeedSignatureError
 * @throws FeedRefusedError when it is signed and of another log
 */
export function openCheckpoint(bytes: Uint8Array, keys: CheckpointKeys): SignedCheckpoint {
  const note = parseNote(bytes)
  const good = verifyNote(note, [keys.log, keys.heartbeat, ...keys.witnesses])
  if (!good.some(({ key }) => key === keys.log)) {
    throw new FeedSignatureError(`checkpoint: expected a signature by the log key ${quote(keys.log.name)}`)
  }
  const time = good.find(({ key }) => key === keys.heartbeat)?.time
  if (time === undefined) {
    throw new FeedSignatureError(
      `checkpoint: expected a signature by the heartbeat key ${quote(keys.heartbeat.name)}`,
    )
  }
  const witnessed = good.filter(({ key }) => keys.witnesses.includes(key)).length
  if (witnessed < keys.quorum) {
    throw new FeedSignatureError(
      `checkpoint: expected signatures by ${keys.quorum} witnesses, got ${witnessed}`,
    )
  }
  const checkpoint = parseCheckpoint(note.text)
  if (checkpoint.origin !== keys.origin) {
    throw new FeedRefusedError(
      `checkpoint: expected origin ${quote(keys.origin)}, got ${quote(checkpoint.origin)}`,
    )
  }
  return { ...checkpoint, time, bytes }
}
