/**
 * Unsigned LEB128, as protobuf, CIDs and CAR use it, for numbers up to 2^53 - 1. Bit operations in JavaScript are
 * signed and of 32 bits, and encoders built on them write sizes from 2 to 4 GiB wrong (protons-runtime 5.6.0 and 7.1.2
 * [security 0.4]), so what is above 2^31 is divided here, not shifted.
 */
const SHIFT_LIMIT = 2 ** 31
/** ceil(64 / 7): the longest that a uint64 takes. */
export const VARINT_MAX_BYTES = 10

/** Bytes that are no varint, or none that we take. */
export class VarintError extends Error {
  override readonly name = 'VarintError'
}

/** Bytes that {@link writeVarint} takes for it. */
export function varintBytes(value: number): number {
  let bytes = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

/** Writes `value`, a safe integer not below 0, at `offset`; returns the offset after it. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value
  while (rest >= SHIFT_LIMIT) {
    target[offset++] = (rest % 128) | 0x80
    rest = Math.floor(rest / 128)
  }
  while (rest >= 128) {
    target[offset++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  target[offset++] = rest
  return offset
}

/**
 * Only the shortest form, only up to 2^53 - 1.
 *
 * @throws VarintError
 */
export function readVarint(bytes: Uint8Array, offset: number): { value: number; end: number } {
  let value = 0
  for (let i = 0; i < VARINT_MAX_BYTES; i++) {
    const byte = bytes[offset + i]
    if (byte === undefined) throw new VarintError(`the varint at offset ${offset} is cut off`)
    value += (byte & 0x7f) * 2 ** (7 * i)
    if (byte >= 0x80) continue
    if (byte === 0 && i > 0)
      throw new VarintError(`the varint at offset ${offset} is longer than it needs to be`)
    if (value > Number.MAX_SAFE_INTEGER) {
      throw new VarintError(`the varint at offset ${offset} is above 2^53 - 1`)
    }
    return { value, end: offset + i + 1 }
  }
  throw new VarintError(`the varint at offset ${offset} is longer than ${VARINT_MAX_BYTES} bytes`)
}
