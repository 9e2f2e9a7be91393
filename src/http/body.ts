/** The guard between a source of bytes and a response that has promised how many there are. */
import { BodyLengthError } from './errors.ts'

/**
 * Passes on exactly `length` bytes, or throws before the last of them. The chunk that completes the length waits for the
 * source to end: only then is it certain that there is no more, and that the source has nothing against it (a transfer
 * that finds the wrong NarHash throws at its end).
 *
 * @throws BodyLengthError; whatever the source throws
 */
export async function* exactly(
  chunks: AsyncIterable<Uint8Array>,
  length: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let left = length
  let last: Uint8Array | undefined
  for await (const chunk of chunks) {
    if (chunk.byteLength === 0) continue
    if (chunk.byteLength > left) {
      throw new BodyLengthError(`expected ${length} bytes, got at least ${length - left + chunk.byteLength}`)
    }
    left -= chunk.byteLength
    if (left > 0) yield chunk
    else last = chunk
  }
  if (left > 0) throw new BodyLengthError(`expected ${length} bytes, got ${length - left}`)
  if (last !== undefined) yield last
}

export interface ChunkReader {
  next(): Promise<IteratorResult<Uint8Array, void>>
  /** Frees the source, whether or not it was read to its end. */
  close(): Promise<void>
}

/**
 * Resolves with the first chunk in hand: what fails at once fails before any head is sent.
 *
 * @throws whatever the source throws for its first chunk
 */
export async function readChunks(chunks: AsyncGenerator<Uint8Array, void, undefined>): Promise<ChunkReader> {
  let first: IteratorResult<Uint8Array, void> | undefined = await chunks.next()
  return {
    next() {
      if (first === undefined) return chunks.next()
      const result = first
      first = undefined
      return Promise.resolve(result)
    },
    async close() {
      await chunks.return()
    },
  }
}
