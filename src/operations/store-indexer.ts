/**
 * Goes through the Nix store and puts into the index what others may have of it: a small NAR by its row in Nix's database
 * alone, a large one by reading it once, slowly, and while nothing else moves. What is in the index already is not read again,
 * so it goes on after a restart where it was. Nothing is copied.
 */
import timers from 'node:timers/promises'
import {
  INDEXER_ASKED_MAX_COUNT,
  INDEXER_BUSY_MS,
  INDEXER_LIST_COUNT,
  INDEXER_LOOK_MS,
  INDEXER_REVIEW_MS,
} from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { StoreNar } from '../publish/first-read.ts'
import type { StoreHoldings } from '../publish/store-holdings.ts'
import type { CallOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { RegisteredPath } from '../store/path-info.ts'
import { createRate } from '../swarm/rate.ts'
import { BlockUnavailableError } from '../substitute/errors.ts'
import type { StoreStatus } from './status.ts'

export interface StoreIndexer {
  /** Before all that nobody asked for; not when too many wait already. */
  want(nar: StoreNar): void
  /** What is due now. @returns ms until there is something to do again */
  turn(options: CallOptions): Promise<number>
  status(): StoreStatus
}

export function createStoreIndexer(
  deps: {
    store: Pick<LocalStore, 'registered'>
    index: LeafIndex
    inStore: StoreHoldings
    /** Bytes go to or come from somebody. */
    isBusy: () => boolean
    /** Much was written: the database's log may go. */
    wrote: () => void
    /** Monotonic, ms. */
    clock: () => number
    sleep?: (ms: number, options: CallOptions) => Promise<void>
  },
  config: { bytesPerSecond: number },
): StoreIndexer {
  const { store, index, inStore, isBusy, clock } = deps
  const sleep = deps.sleep ?? ((ms, { signal }) => timers.setTimeout(ms, undefined, { signal, ref: false }))
  const asked = new Map<NarHash, StoreNar>()
  const waiting = new Map<NarHash, StoreNar>()
  const indexed = { paths: 0, bytes: 0 }
  /** Of Nix's database: the last row that was looked at, and how it was then. */
  const seen = { id: 0, mark: '', reviewedMark: '', reviewedAt: -Infinity }
  const rate = createRate({ perSecond: config.bytesPerSecond, burst: 0 }, clock)
  let hasWritten = false
  let breathedAt = clock()

  const isIndexed = ({ narHash, storePath }: RegisteredPath | StoreNar): boolean => {
    const nar = index.nar(narHash)
    return nar?.shared === true && nar.storePaths.includes(storePath)
  }

  const count = ({ narSize }: { readonly narSize: number }): void => {
    indexed.paths += 1
    indexed.bytes += narSize
  }

  const look = (path: RegisteredPath): void => {
    if (!path.isSigned) return
    if (isIndexed(path)) {
      count(path)
      return
    }
    const info = inStore.narInfo(hashPartOf(path.storePath))
    if (info === undefined) return
    if (inStore.enter(info)) {
      hasWritten = true
      count(path)
    } else waiting.set(info.narHash, slim(info))
  }

  /** Between two handfuls of rows: half of the time for others, and most of it when they have something to do. */
  const breathe = async (options: CallOptions): Promise<void> => {
    await sleep(isBusy() ? INDEXER_BUSY_MS : clock() - breathedAt, options)
    breathedAt = clock()
  }

  const lookAtNew = async (options: CallOptions): Promise<void> => {
    for (;;) {
      const { paths, lastId } = store.registered.after(seen.id, INDEXER_LIST_COUNT)
      if (lastId === seen.id) return
      paths.forEach(look)
      seen.id = lastId
      await breathe(options)
    }
  }

  /** Rows of the index whose path Nix has collected. */
  const dropGone = async (options: CallOptions): Promise<void> => {
    for (let id = 0; ;) {
      const nars = index.list(id, INDEXER_LIST_COUNT)
      const last = nars.at(-1)
      if (last === undefined) return
      for (const { narHash, storePaths } of nars) {
        for (const path of storePaths) {
          if (inStore.has(narHash, path) || inStore.reads.isBad(narHash)) continue
          index.removePath(narHash, path)
          hasWritten = true
        }
      }
      id = last.id
      await breathe(options)
    }
  }

  const lookAtStore = async (options: CallOptions): Promise<void> => {
    breathedAt = clock()
    const mark = store.registered.changeMark()
    const now = clock()
    if (mark !== seen.reviewedMark && now - seen.reviewedAt >= INDEXER_REVIEW_MS) {
      // All of it: paths may have gone, and be signed now that were not.
      seen.id = 0
      waiting.clear()
      Object.assign(indexed, { paths: 0, bytes: 0 })
      await lookAtNew(options)
      await dropGone(options)
      Object.assign(seen, { mark, reviewedMark: mark, reviewedAt: now })
    } else if (mark !== seen.mark) {
      await lookAtNew(options)
      seen.mark = mark
    }
  }

  const pace = async (bytes: number, options: CallOptions): Promise<void> => {
    while (isBusy()) await sleep(INDEXER_BUSY_MS, options)
    await sleep(rate.take(bytes, Infinity) ?? 0, options)
  }

  const next = (): StoreNar | undefined => {
    const [nar] = asked.size > 0 ? asked.values() : waiting.values()
    return nar
  }

  const read = async (nar: StoreNar, options: CallOptions): Promise<void> => {
    // It may have gone out to somebody since, and was hashed then.
    if (!isIndexed(nar) && !inStore.enter(nar)) {
      try {
        await inStore.reads.finish(nar, (bytes) => pace(bytes, options), options)
      } catch (error) {
        // Told where it was found out.
        if (error instanceof BlockUnavailableError) return
        throw error
      }
    }
    hasWritten = true
    count(nar)
  }

  return {
    want(nar) {
      if (asked.size < INDEXER_ASKED_MAX_COUNT) asked.set(nar.narHash, slim(nar))
    },

    async turn(options) {
      await lookAtStore(options)
      const lookAgain = clock() + INDEXER_LOOK_MS
      for (let nar = next(); nar !== undefined; nar = next()) {
        try {
          await read(nar, options)
        } finally {
          asked.delete(nar.narHash)
          waiting.delete(nar.narHash)
        }
        if (clock() >= lookAgain) return 0
      }
      if (hasWritten) deps.wrote()
      hasWritten = false
      return INDEXER_LOOK_MS
    },

    status() {
      const toGo = new Map([...waiting, ...asked])
      return {
        indexed: indexed.paths,
        indexed_bytes: indexed.bytes,
        ...(seen.reviewedMark === ''
          ? {}
          : {
              to_go: toGo.size,
              to_go_bytes: [...toGo.values()].reduce((sum, { narSize }) => sum + narSize, 0),
            }),
      }
    },
  }
}

/** A narinfo is ten times as large, and there may be 100,000 of them. */
function slim({ storePath, narHash, narSize }: StoreNar): StoreNar {
  return { storePath, narHash, narSize }
}
