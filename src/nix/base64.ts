import { quote } from './quote.ts'

/** What may be told of base64 text in an error: a secret key's must not be. */
type Disclosure = 'quoted' | 'secret'

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/**
 * The `byteLength` bytes that `text` spells in RFC 4648 section 4 base64.
 * Missing padding is taken, since Nix takes it and a key copied by double click often lacks its `=`; everything else
 * that would give the same bytes a second spelling is refused.
 * @throws RangeError which quotes `text` only when told that it may
 */
export function decodeBase64(
  text: string,
  byteLength: number,
  disclosure: Disclosure = 'quoted',
): Uint8Array {
  const shown = disclosure === 'quoted' ? `: ${quote(text)}` : ''
  if (!BASE64.test(text)) throw new RangeError(`base64: a character is not of its alphabet${shown}`)
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'))
  if (bytes.length !== byteLength) {
    throw new RangeError(`base64: expected ${byteLength} bytes, got ${bytes.length}${shown}`)
  }
  const canonical = encodeBase64(bytes)
  if (text !== canonical && text !== canonical.replace(/=+$/, '')) {
    throw new RangeError(`base64: wrong padding${shown}`)
  }
  return bytes
}

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}
