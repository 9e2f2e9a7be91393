import { quote } from './quote.ts'

/** Nix's own base 32: the letters e, o, t and u are left out (NixOS/nix libutil/hash.cc). */
export const NIX32_ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz'

function encodedLength(byteLength: number): number {
  return Math.ceil((byteLength * 8) / 5)
}

/**
 * Bytes as nix32 text: 20 bytes give 32 characters, 32 bytes give 52.
 * The trap: digits are taken from the last bit backwards, so the text reads the bytes in reverse and the odd bits
 * are at its front. It is neither RFC 4648 with another alphabet nor a plain reversal of it.
 */
export function encodeNix32(bytes: Uint8Array): string {
  let text = ''
  for (let digit = encodedLength(bytes.length) - 1; digit >= 0; digit--) {
    const at = (digit * 5) >> 3
    const shift = (digit * 5) & 7
    const pair = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
    text += NIX32_ALPHABET.charAt((pair >> shift) & 31)
  }
  return text
}

/**
 * The `byteLength` bytes that `text` spells.
 * @throws RangeError on another length, a character outside the alphabet, or padding bits that are not zero (these
 * would give one hash several spellings; Nix refuses them too)
 */
export function decodeNix32(text: string, byteLength: number): Uint8Array {
  const expected = encodedLength(byteLength)
  if (text.length !== expected) {
    throw new RangeError(`nix32: expected ${expected} characters, got ${text.length}: ${quote(text)}`)
  }
  const bytes = new Uint8Array(byteLength)
  for (let digit = 0; digit < expected; digit++) {
    const position = expected - 1 - digit
    const value = NIX32_ALPHABET.indexOf(text.charAt(position))
    if (value < 0) {
      throw new RangeError(
        `nix32: ${quote(text.charAt(position))} at ${position} is not one of ${NIX32_ALPHABET}: ${quote(text)}`,
      )
    }
    const at = (digit * 5) >> 3
    const pair = value << ((digit * 5) & 7)
    bytes[at] = (bytes[at] ?? 0) | (pair & 0xff)
    const carry = pair >> 8
    if (carry === 0) continue
    if (at + 1 >= byteLength) throw new RangeError(`nix32: the padding bits are not zero: ${quote(text)}`)
    bytes[at + 1] = carry
  }
  return bytes
}
