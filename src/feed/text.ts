import { FeedFormatError } from './errors.ts'

/**
 * UTF-8 to text, refusing what is not UTF-8. A byte order mark stays a character, so that no two byte strings read the
 * same.
 *
 * @throws FeedFormatError
 */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new FeedFormatError(`${what}: expected UTF-8`, { cause })
  }
}

export function encodeUtf8(text: string): Uint8Array {
  return Buffer.from(text, 'utf8')
}
