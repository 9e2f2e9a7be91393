/** C2SP tlog-tiles, "Log entries": entries one after the other, each behind its length as a big-endian uint16. */
import { FEED_ENTRY_MAX_BYTES } from '../limits.ts'
import { FeedFormatError } from './errors.ts'

const LENGTH_BYTES = 2

export function formatBundle(entries: readonly Uint8Array[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const entry of entries) {
    if (entry.length < 1 || entry.length > FEED_ENTRY_MAX_BYTES) {
      throw new RangeError(`expected an entry of 1 to ${FEED_ENTRY_MAX_BYTES} bytes, got ${entry.length}`)
    }
    const length = Buffer.allocUnsafe(LENGTH_BYTES)
    length.writeUInt16BE(entry.length)
    parts.push(length, entry)
  }
  return Buffer.concat(parts)
}

/**
 * The entries as views of `bytes`, exactly `count` of them and nothing after the last.
 *
 * @throws FeedFormatError
 */
export function parseBundle(bytes: Uint8Array, count: number): Uint8Array[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const entries: Uint8Array[] = []
  let offset = 0
  while (entries.length < count) {
    const start = offset + LENGTH_BYTES
    if (start > buffer.length) {
      throw new FeedFormatError(
        `bundle: expected ${count} entries, got ${entries.length} in ${bytes.length} bytes`,
      )
    }
    const end = start + buffer.readUInt16BE(offset)
    if (end === start || end > buffer.length) {
      throw new FeedFormatError(
        `bundle: entry ${entries.length} at offset ${offset} has length ${end - start}, with ${buffer.length - start} bytes left`,
      )
    }
    entries.push(buffer.subarray(start, end))
    offset = end
  }
  if (offset !== buffer.length) {
    throw new FeedFormatError(`bundle: ${buffer.length - offset} bytes after the last of ${count} entries`)
  }
  return entries
}
