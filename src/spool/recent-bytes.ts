import { RECENT_BYTES, RECENT_PIECE_MIN_BYTES } from '../limits.ts'
import type { ByteRange } from '../source.ts'

/**
 * What was written to a file last, as it still lies in memory: a reader who keeps up with the writer has it from here, and
 * nothing is read back from disk.
 */
export interface RecentBytes {
  /**
   * The next bytes of the file, kept until RECENT_BYTES came after them.
   *
   * @param release called once, when they are kept no longer and all readers are done; without it nobody may change them
   */
  add(start: number, bytes: Uint8Array, release?: () => void): void
  /** Undefined when the first bytes of the range are on disk alone, or so few that more are read there at once. */
  from(range: ByteRange): RecentPiece | undefined
  clear(): void
}

export interface RecentPiece {
  /** From the beginning of the range on. */
  readonly bytes: Uint8Array
  /** To be called once. Who is not sure does not, and the garbage collector has the buffer. */
  done(): void
}

interface Kept {
  readonly start: number
  readonly bytes: Uint8Array
  readonly release: (() => void) | undefined
  /** Readers, and this one while it is kept. */
  users: number
}

export function createRecentBytes(): RecentBytes {
  const pieces: Kept[] = []

  const leave = (piece: Kept): void => {
    if (--piece.users === 0) piece.release?.()
  }
  const drop = (count: number): void => {
    for (const piece of pieces.splice(0, count)) leave(piece)
  }

  return {
    add(start, bytes, release) {
      pieces.push({ start, bytes, release, users: 1 })
      const end = start + bytes.length
      drop(pieces.findIndex((piece) => end - piece.start - piece.bytes.length < RECENT_BYTES))
    },
    from({ start, end }) {
      const piece = pieces.find((one) => start >= one.start && start < one.start + one.bytes.length)
      if (piece === undefined) return undefined
      const bytes = piece.bytes.subarray(start - piece.start, end - piece.start)
      if (bytes.length < Math.min(RECENT_PIECE_MIN_BYTES, end - start)) return undefined
      piece.users += 1
      return { bytes, done: () => leave(piece) }
    },
    clear: () => drop(pieces.length),
  }
}
