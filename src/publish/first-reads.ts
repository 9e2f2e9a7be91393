/**
 * NARs of the store that are not in the index yet, for others: read once, hashed on the way, and in the index afterwards. What
 * goes out before the NarHash is proved lacks its last 256 KiB, so a wrong NAR never comes whole.
 */
import { LRUCache } from 'lru-cache'
import { LEAF_BYTES } from '../dag/profile.ts'
import type { NarPlan } from '../dag/planner.ts'
import {
  BAD_PATH_MS,
  BAD_PATHS_MAX_COUNT,
  FIRST_READ_KEPT_MS,
  FIRST_READ_RANGE_DEADLINE_MS,
  FIRST_READS_MAX_COUNT,
  HELD_BACK_BYTES,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { NarTreeError } from '../nix/nar-layout.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import { StorePathChangedError, StorePathNotValidError } from '../store/errors.ts'
import type { LocalStore } from '../store/local-store.ts'
import { BlockUnavailableError } from '../substitute/errors.ts'
import { createFirstRead } from './first-read.ts'
import type { FirstRead, StoreNar } from './first-read.ts'

export interface FirstReads {
  /**
   * From its beginning on it goes out as it is read, all but its end. Any other range waits until all of the NAR is proved.
   *
   * @throws BlockUnavailableError when the store does not have these bytes, or a range could not be proved in time
   */
  read(nar: StoreNar, range: ByteRange, options: CallOptions): AsyncGenerator<Uint8Array, void, undefined>
  /**
   * Reads what is left of it for the index's sake. `pace` is awaited before each leaf.
   *
   * @throws BlockUnavailableError
   */
  finish(nar: StoreNar, pace: (bytes: number) => Promise<void>, options: CallOptions): Promise<void>
  /** Its bytes were not what Nix registered, a short while ago. */
  isBad(narHash: NarHash): boolean
  markBad(nar: StoreNar, error: unknown): void
  close(): void
}

export function createFirstReads(deps: {
  store: Pick<LocalStore, 'readNarInto'>
  /** All of it was hashed, and makes the NarHash. */
  proved(nar: StoreNar, plan: NarPlan): void
  clock: () => number
  log: Log
}): FirstReads {
  const { store, clock, log } = deps
  const reads = new LRUCache<NarHash, FirstRead>({
    max: FIRST_READS_MAX_COUNT,
    ttl: FIRST_READ_KEPT_MS,
    updateAgeOnGet: true,
  })
  const bad = createFading<NarHash, true>({ max: BAD_PATHS_MAX_COUNT, maxAgeMs: BAD_PATH_MS, clock })
  const closing = new AbortController()

  const markBad = ({ storePath, narHash }: StoreNar, error: unknown): void => {
    if (!bad.has(narHash)) {
      const reason = messageOf(error)
      log.warn({ path: storePath, err: error }, `a store path is not given to others for now: ${reason}`)
    }
    bad.set(narHash, true)
  }

  const begun = (nar: StoreNar): FirstRead => {
    const { narHash } = nar
    const known = reads.get(narHash)
    if (known !== undefined) return known
    const read = createFirstRead(nar, {
      store,
      signal: closing.signal,
      proved: (plan) => deps.proved(nar, plan),
    })
    reads.set(narHash, read)
    return read
  }

  /** @throws BlockUnavailableError for what the store did, anything else as it is */
  const failed = (nar: StoreNar, read: FirstRead, error: unknown): never => {
    if (reads.peek(nar.narHash) === read) reads.delete(nar.narHash)
    if (error instanceof StorePathNotValidError)
      throw new BlockUnavailableError(error.message, { cause: error })
    if (!(error instanceof StorePathChangedError || error instanceof NarTreeError)) throw error
    markBad(nar, error)
    throw new BlockUnavailableError(error.message, { cause: error })
  }

  /** @throws BlockUnavailableError after a deadline; the leaves that were hashed by then need not be again */
  const proveForRange = async (nar: StoreNar, read: FirstRead, { signal }: CallOptions): Promise<void> => {
    const deadline = AbortSignal.timeout(FIRST_READ_RANGE_DEADLINE_MS)
    const options = { signal: AbortSignal.any([signal, deadline]) }
    try {
      while (!read.isProved) await read.leaf(read.done, options)
    } catch (error) {
      if (!deadline.aborted || signal.aborted) throw error
      const done = `${read.done} of ${read.leaves} leaves are hashed`
      throw new BlockUnavailableError(`${nar.storePath}: no range of it can be given yet, ${done}`, {
        cause: error,
      })
    }
  }

  return {
    async *read(nar, range, options) {
      const read = begun(nar)
      try {
        if (range.start > 0) await proveForRange(nar, read, options)
        const held: Uint8Array[] = []
        for (let index = Math.floor(range.start / LEAF_BYTES); index * LEAF_BYTES < range.end; index++) {
          const leaf = await read.leaf(index, options)
          const offset = index * LEAF_BYTES
          const bytes = leaf.subarray(Math.max(0, range.start - offset), range.end - offset)
          const free = read.isProved ? bytes.length : Math.max(0, range.end - HELD_BACK_BYTES - offset)
          if (read.isProved) yield* held.splice(0)
          if (free > 0) yield bytes.subarray(0, free)
          if (free < bytes.length) held.push(bytes.subarray(free))
        }
        while (!read.isProved) await read.leaf(read.done, options)
        yield* held
      } catch (error) {
        failed(nar, read, error)
      }
    },

    async finish(nar, pace, options) {
      const read = begun(nar)
      try {
        while (!read.isProved) {
          await pace(LEAF_BYTES)
          options.signal.throwIfAborted()
          if (!read.isProved) await read.leaf(read.done, options)
        }
      } catch (error) {
        failed(nar, read, error)
      }
    },

    isBad: (narHash) => bad.has(narHash),
    markBad,
    close: () => closing.abort(new Error('narswarm is closing')),
  }
}
