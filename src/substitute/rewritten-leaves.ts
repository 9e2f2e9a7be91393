/** Leaves of the nearest older path, rewritten: where the whole is not right, many of its leaves may be. */
import { sha256 } from '../dag/cid.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { REWRITE_LEAF_MISSES_COUNT, REWRITE_LEAVES_APART_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import { createRewriter } from '../nix/rewriter.ts'
import type { Rewriter } from '../nix/rewriter.ts'
import { COST, SourceMissError } from '../source.ts'
import type { BlockSource, SourceId } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { Relative } from '../store/relatives.ts'
import { readRewritten } from '../store/rewritten-nar.ts'
import type { OldNar } from '../store/rewritten-nar.ts'
import type { Slots } from '../upstream/slots.ts'

/** Of all that is made of older paths: which of them is told in the log. */
export const REWRITTEN: SourceId = 'rewritten'

/**
 * Hashed here as well as by the scheduler, for a wrong guess is a miss and no lie. It is made by its offset, so interior
 * nodes are misses, too; where the old NAR's leaves are wrong one after the other, most are not even tried.
 */
export function createRewrittenLeaves(
  deps: {
    store: Pick<LocalStore, 'readNarInto'>
    /** Shared by all NARs. */
    slots: Slots
  },
  nar: { readonly narSize: number },
  { storePath, pairings: [rewrites = []] }: Pick<Relative, 'storePath' | 'pairings'>,
): BlockSource {
  const { narSize } = nar
  let rewriter: Rewriter | undefined
  let missesInARow = 0
  let skipped = 0
  const isWorthIt = (): boolean => {
    if (missesInARow < REWRITE_LEAF_MISSES_COUNT) return true
    skipped = (skipped + 1) % REWRITE_LEAVES_APART_COUNT
    return skipped === 0
  }
  const miss = (why: string, options?: ErrorOptions): SourceMissError =>
    new SourceMissError(REWRITTEN, `${storePath}: ${why}`, options)
  /** Not counted before: a window of leaves is asked for at once. */
  const wrong = (why: string, options?: ErrorOptions): SourceMissError => {
    missesInARow += 1
    return miss(why, options)
  }

  return {
    id: REWRITTEN,
    cost: COST.local,
    async fetch({ cid, offset }, options) {
      if (offset === undefined || offset >= narSize || !isWorthIt()) throw miss('not tried')
      rewriter ??= createRewriter(rewrites)
      const old: OldNar = {
        narSize,
        read: (range, target) => deps.store.readNarInto(storePath, range, target, options),
      }
      const range = { start: offset, end: Math.min(narSize, offset + LEAF_BYTES) }
      await deps.slots.take(options)
      let bytes: Uint8Array
      try {
        bytes = await readRewritten(old, rewriter, range)
      } catch (error) {
        options.signal.throwIfAborted()
        throw wrong(messageOf(error), { cause: error })
      } finally {
        deps.slots.free()
      }
      if (Buffer.compare(sha256(bytes), cid.multihash.digest) !== 0) {
        throw wrong(`rewritten, its leaf at byte ${offset} is another one`)
      }
      missesInARow = 0
      return bytes
    },
  }
}
