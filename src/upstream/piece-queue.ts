import type { PieceBuffers } from '../source.ts'
import { createBell } from './bell.ts'

/** Bytes as they come, for one who takes them in pieces: in whole ones while it is slower than they come, else at once. */
export interface PieceQueue {
  /** The next bytes, which are copied: their buffer may be filled anew. */
  add(chunk: Uint8Array): void
  /** Two whole pieces wait: for now no more should come. */
  readonly isFull: boolean
  /** There will be no more. The first of these calls counts. */
  end(): void
  fail(reason: Error): void
  /**
   * Each piece is the taker's, and no two of them lie in one buffer. One waits at a time.
   *
   * @returns undefined at the end
   * @throws the reason, after the last byte
   */
  next(): Promise<Uint8Array | undefined>
}

const FULL_COUNT = 2
/** A piece of less than such a part of its buffer is copied out of it. */
const COPIED_BELOW = 4

/**
 * @param pieceBytes of a whole piece
 * @param buffers for pieces of their size
 */
export function createPieceQueue(pieceBytes: number, buffers?: PieceBuffers): PieceQueue {
  const bell = createBell()
  const whole: Uint8Array[] = []
  /** Being filled. */
  let buffer: Uint8Array | undefined
  let filled = 0
  let failure: Error | undefined
  let isOver = false

  const take = (): Uint8Array =>
    pieceBytes === buffers?.size ? buffers.take() : Buffer.allocUnsafeSlow(pieceBytes)

  const takeFilled = (): Uint8Array | undefined => {
    if (buffer === undefined || filled === 0) return undefined
    let piece = buffer.subarray(0, filled)
    // A slow line gives few bytes at a time: they shall not keep a large buffer each.
    if (filled * COPIED_BELOW < buffer.length) piece = new Uint8Array(piece)
    else buffer = undefined
    filled = 0
    return piece
  }

  return {
    add(chunk) {
      for (let at = 0; at < chunk.length;) {
        buffer ??= take()
        const part = chunk.subarray(at, at + buffer.length - filled)
        buffer.set(part, filled)
        filled += part.length
        at += part.length
        const piece = filled === buffer.length ? takeFilled() : undefined
        if (piece !== undefined) whole.push(piece)
      }
      bell.ring()
    },
    get isFull() {
      return whole.length >= FULL_COUNT
    },
    end() {
      isOver = true
      bell.ring()
    },
    fail(reason) {
      if (!isOver) failure = reason
      isOver = true
      bell.ring()
    },
    async next() {
      await bell.until(() => whole.length > 0 || filled > 0 || isOver)
      const piece = whole.shift() ?? takeFilled()
      if (piece !== undefined) return piece
      if (buffer !== undefined) buffers?.give(buffer)
      buffer = undefined
      if (failure !== undefined) throw failure
      return undefined
    },
  }
}
