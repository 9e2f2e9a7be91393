/**
 * Those who follow one transfer. What they may have: all that is on disk but the last HELD_BACK_BYTES of what each asked
 * for; those too once the NarHash of the whole is proved. So a response that completes is right, and a wrong one
 * breaks off (P1).
 */
import { HELD_BACK_BYTES, ORPHAN_GRACE_MS, UNPROVEN_HELD_MS } from '../limits.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import { chunkOptions } from '../spool/chunk-buffers.ts'
import type { RecentPiece } from '../spool/recent-bytes.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { NoSourceError } from './errors.ts'
import type { Progress } from './progress.ts'

/** What its readers see of a transfer. */
export interface Followable {
  /** Undefined while there is none; another one after the bytes of the first were thrown away. */
  readonly file: SpoolFile | undefined
  readonly verified: boolean
  /** Different roots were told: nothing goes out before the NarHash is proved. */
  readonly disputed: boolean
  readonly failure: Error | undefined
}

export interface Readers {
  /** Furthest byte that any of them got: once it is above 0 the bytes cannot be taken back. */
  readonly released: number
  /** Up to where one may read who wants to read up to `end`. */
  releasable(end: number): number
  /** Nobody vouches for bytes of it: once, nothing goes out for UNPROVEN_HELD_MS unless all is proved before. */
  holdBack(): void
  /** The bytes were thrown away, and nobody has had any. */
  beginAnew(): void
  /** Resolves when one of this range would get its first byte. @throws the transfer's failure */
  firstByte(range: ByteRange, options: CallOptions): Promise<void>
  /** Counts as a reader while the promise is pending. */
  waiting<T>(work: () => Promise<T>): Promise<T>
  read(range: ByteRange, options: ReadOptions): AsyncGenerator<Uint8Array, void, undefined>
  /**
   * For who checks the bytes itself, and is nobody of ours: it does not keep the transfer going, and the bytes may be
   * thrown away although it has some of them: then it is cut.
   */
  follow(range: ByteRange, options: ReadOptions): AsyncGenerator<Uint8Array, void, undefined>
  /** Nobody needs to be waited for any more. */
  close(): void
}

/** @param onOrphaned nobody has read for ORPHAN_GRACE_MS */
export function createReaders(transfer: Followable, progress: Progress, onOrphaned: () => void): Readers {
  let released = 0
  let count = 0
  let orphaned: NodeJS.Timeout | undefined
  let heldBack: 'not yet' | 'now' | 'for long enough' = 'not yet'
  let holding: NodeJS.Timeout | undefined

  const releasable = (end: number): number =>
    transfer.verified
      ? end
      : transfer.disputed || heldBack === 'now'
        ? 0
        : Math.max(0, Math.min(transfer.file?.prefix ?? 0, end - HELD_BACK_BYTES))

  function enter(): void {
    count += 1
    clearTimeout(orphaned)
  }

  function leave(): void {
    count -= 1
    if (count > 0 || transfer.verified || transfer.failure !== undefined) return
    orphaned = setTimeout(onOrphaned, ORPHAN_GRACE_MS)
  }

  /** @param tell how far it got; without it they may be thrown away all the same */
  async function* pieces(
    range: ByteRange,
    options: ReadOptions,
    tell: ((at: number) => void) | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const chunked = chunkOptions(options)
    let last: RecentPiece | undefined
    let lastButOne: RecentPiece | undefined
    /**
     * Whoever is about to get this chunk reads the last but one no more. Not told when it asks: who has all it wants asks
     * once more, to hear that there is no more (`exactly`), and may still be sending both.
     */
    const giving = (chunk?: RecentPiece): void => {
      if (options.reuse === true) lastButOne?.done()
      lastButOne = last
      last = chunk
    }
    let begun: SpoolFile | undefined
    let at = range.start
    while (at < range.end) {
      if (transfer.failure !== undefined) throw transfer.failure
      const { file } = transfer
      if (tell === undefined && begun !== undefined && file !== begun) {
        throw new NoSourceError('the bytes were thrown away, and others may come')
      }
      const end = releasable(range.end)
      if (file === undefined || end <= at) {
        await progress.wait(options.signal)
        continue
      }
      const recent = file.recent({ start: at, end })
      if (recent !== undefined) {
        begun = file
        at += recent.bytes.length
        tell?.(at)
        giving(recent)
        yield recent.bytes
        continue
      }
      try {
        for await (const bytes of file.read({ start: at, end }, chunked)) {
          // Thrown away between disk and here: wait for the new one.
          if (file !== transfer.file) break
          begun = file
          at += bytes.length
          tell?.(at)
          giving()
          yield bytes
        }
      } catch (error) {
        if (file === transfer.file) throw error
      }
    }
  }

  async function waiting<T>(work: () => Promise<T>): Promise<T> {
    enter()
    try {
      return await work()
    } finally {
      leave()
    }
  }

  return {
    get released() {
      return released
    },
    releasable,
    waiting,

    holdBack() {
      if (heldBack !== 'not yet') return
      heldBack = 'now'
      holding = setTimeout(() => {
        heldBack = 'for long enough'
        progress.notify()
      }, UNPROVEN_HELD_MS)
    },
    beginAnew() {
      heldBack = 'not yet'
      clearTimeout(holding)
    },

    firstByte: (range, { signal }) =>
      waiting(async () => {
        while (releasable(range.end) <= range.start && range.end > range.start) {
          if (transfer.failure !== undefined) throw transfer.failure
          await progress.wait(signal)
        }
      }),

    async *read(range, options) {
      enter()
      try {
        yield* pieces(range, options, (at) => {
          released = Math.max(released, at)
        })
      } finally {
        leave()
      }
    },

    follow: (range, options) => pieces(range, options, undefined),

    close() {
      clearTimeout(orphaned)
      clearTimeout(holding)
    },
  }
}
