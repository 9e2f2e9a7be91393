/** The NAR of an older path with its store paths replaced: as a stream or a piece of it, never on disk. */
import { STORE_READ_BYTES } from '../limits.ts'
import type { Rewriter } from '../nix/rewriter.ts'
import type { ByteRange, ReadOptions } from '../source.ts'

export interface OldNar {
  readonly narSize: number
  /** Fills the buffer, as long as the range, with the NAR's bytes as they are. */
  read(range: ByteRange, target: Uint8Array): Promise<unknown>
}

const CHUNK_BYTES = STORE_READ_BYTES
/** One goes out, the one before it may still be read, the next is being filled. */
const REUSED_BUFFERS_COUNT = 3

/**
 * Bytes of the rewritten NAR, the next ones being read meanwhile. Always by ranges that begin at a multiple of
 * STORE_READ_BYTES and go to the next one, so that two streams read alike wherever they begin.
 *
 * @throws what `read` throws; the signal's reason
 */
export async function* streamRewritten(
  nar: OldNar,
  rewriter: Rewriter,
  range: ByteRange,
  { signal, reuse = false }: ReadOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { reach } = rewriter
  const end = Math.min(nar.narSize, range.end + reach)
  const buffers: Uint8Array[] = []
  const bufferFor = (start: number): Uint8Array => {
    const place = (start / CHUNK_BYTES) % REUSED_BUFFERS_COUNT
    const found = reuse ? buffers[place] : undefined
    return found ?? (buffers[place] = Buffer.allocUnsafeSlow(reach + Math.min(CHUNK_BYTES, nar.narSize)))
  }
  // Before the chunk is room for what the one before it left unsettled.
  const read = async (start: number): Promise<{ start: number; buffer: Uint8Array; size: number }> => {
    const buffer = bufferFor(start)
    const size = Math.min(CHUNK_BYTES, nar.narSize - start)
    await nar.read({ start, end: start + size }, buffer.subarray(reach, reach + size))
    return { start, buffer, size }
  }
  const from = Math.max(0, range.start - reach)
  let ahead = range.start < range.end ? read(from - (from % CHUNK_BYTES)) : undefined
  let rest: Uint8Array = new Uint8Array(0)
  try {
    while (ahead !== undefined) {
      signal.throwIfAborted()
      const { start, buffer, size } = await ahead
      const next = start + size
      ahead = next < end ? read(next) : undefined
      ahead?.catch(() => {})
      buffer.set(rest, reach - rest.length)
      const bytes = buffer.subarray(reach - rest.length, reach + size)
      const first = start - rest.length
      const settled = rewriter.rewrite(bytes, next === nar.narSize)
      rest = bytes.subarray(settled)
      const piece = bytes.subarray(
        Math.max(0, range.start - first),
        Math.max(0, Math.min(settled, range.end - first)),
      )
      if (piece.length > 0) yield piece
    }
  } finally {
    await ahead?.catch(() => {})
  }
}

/**
 * A small range of the rewritten NAR, by itself. Where references overlap by chance with others before the range it may
 * differ from what the stream has there.
 *
 * @throws what `read` throws
 */
export async function readRewritten(nar: OldNar, rewriter: Rewriter, range: ByteRange): Promise<Uint8Array> {
  const start = Math.max(0, range.start - rewriter.reach)
  const end = Math.min(nar.narSize, range.end + rewriter.reach)
  const bytes = Buffer.allocUnsafeSlow(end - start)
  await nar.read({ start, end }, bytes)
  rewriter.rewrite(bytes, true)
  return bytes.subarray(range.start - start, range.end - start)
}
