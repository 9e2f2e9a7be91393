/** Keeps the spool small: what Nix has imported goes, then what is old, then what was not used for the longest time. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  GC_NAMED_MAX_COUNT,
  SPOOL_PART_MAX_AGE_MS,
  SPOOL_TIDY_MS,
  SPOOL_TURN_COUNT,
  SPOOL_YOUNG_LOOK_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { hashPartOf, type StorePath } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import { isLately } from '../state/lately.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { LeafIndex } from './leaf-index.ts'
import type { Spool } from './spool.ts'
import { holdingKey, totalBytes, type Holding } from './victims.ts'

export interface GcRequest {
  /** Bytes that may stay, instead of the configured quota. */
  readonly maxBytes?: number
  /** Says what would go, and removes nothing. */
  readonly dryRun: boolean
}

/** 'imported': the local store has it. 'expired': a part that nobody went on with. 'room': for quota or free space. */
type GcReason = 'imported' | 'expired' | 'room'

export interface GcItem {
  readonly narHash: NarHash
  readonly kind: 'nar' | 'part'
  readonly bytes: number
  readonly reason: GcReason
}

export interface GcReport {
  readonly dryRun: boolean
  /** GC_NAMED_MAX_COUNT at most. */
  readonly items: readonly GcItem[]
  /** All that went, or would go. */
  readonly count: number
  readonly freedBytes: number
  /** In the spool now: whole NARs, kept parts. */
  readonly leftBytes: number
}

export interface SpoolKeeper {
  /** What is due now. @returns ms until there is something to do again */
  turn(options: CallOptions): Promise<number>
  gc(request: GcRequest, options: CallOptions): Promise<GcReport>
}

export interface KeeperDeps {
  spool: Spool
  index: LeafIndex
  store: LocalStore | undefined
  /** Store paths whose NAR this is, as far as their narinfos were seen. */
  pathsOf: (narHash: NarHash) => readonly StorePath[]
  clock: () => number
  log: Log
}

export function createSpoolKeeper(deps: KeeperDeps): SpoolKeeper {
  const { spool, index, store, pathsOf, clock, log } = deps
  let allLooked: number | undefined

  const importedAs = (narHash: NarHash): StorePath | undefined => {
    const paths = [...pathsOf(narHash), ...(index.nar(narHash)?.storePaths ?? [])]
    return paths.find((path) => isValid(store, path, narHash))
  }

  /** A NAR that Nix has unpacked: its leaves are found in the store path from now on (P5). */
  const releaseImported = async (narHash: NarHash, dryRun: boolean): Promise<number> => {
    const path = importedAs(narHash)
    if (path === undefined) return 0
    if (dryRun) return spool.bytesOf(narHash)
    return spool.release(narHash, () => {
      index.addPath(narHash, path)
      index.setInSpool(narHash, false)
    })
  }

  const sweepImported = async (
    narHashes: readonly NarHash[],
    dryRun: boolean,
    { signal }: CallOptions,
  ): Promise<GcItem[]> => {
    const items: GcItem[] = []
    if (store === undefined) return items
    for (const [at, narHash] of narHashes.entries()) {
      if (at % SPOOL_TURN_COUNT === SPOOL_TURN_COUNT - 1) await nextTurn()
      signal.throwIfAborted()
      const bytes = await releaseImported(narHash, dryRun)
      if (bytes > 0) items.push({ narHash, kind: 'nar', bytes, reason: 'imported' })
    }
    return items
  }

  const collect = async (request: GcRequest, options: CallOptions): Promise<GcItem[]> => {
    const { dryRun, maxBytes } = request
    const items = await sweepImported(spool.unpinned(), dryRun, options)
    const seen = new Set(items.map(holdingKey))
    /** One that comes twice did not go. */
    const add = (gone: readonly Holding[], reason: GcReason): number => {
      const fresh = gone.filter((one) => !seen.has(holdingKey(one)))
      for (const one of fresh) {
        items.push({ ...one, reason })
        seen.add(holdingKey(one))
      }
      return fresh.length
    }
    add(await spool.expireParts(clock() - SPOOL_PART_MAX_AGE_MS, dryRun), 'expired')
    // Each go is bounded, so that NARs that want to come in have their turn between two.
    for (let more = true; more;) {
      options.signal.throwIfAborted()
      const gone = await spool.trim({
        ...(maxBytes === undefined ? {} : { maxBytes }),
        ...(dryRun ? { assumeGone: items } : {}),
      })
      more = add(gone, 'room') > 0
    }
    return items
  }

  const tell = (items: readonly GcItem[]): void => {
    if (items.length === 0) return
    const count = (reason: GcReason): number => items.filter((one) => one.reason === reason).length
    log.info(
      { imported: count('imported'), expired: count('expired'), room: count('room') },
      `spool: ${items.length} files went, ${totalBytes(items)} bytes`,
    )
  }

  return {
    async turn(options) {
      if (!isLately(allLooked, SPOOL_TIDY_MS, clock)) {
        allLooked = clock()
        tell(await collect({ dryRun: false }, options))
      } else {
        const items = await sweepImported(spool.young(), false, options)
        // At once for one that is larger than the quota and has been read.
        for (const one of await spool.trim()) items.push({ ...one, reason: 'room' })
        tell(items)
      }
      return SPOOL_YOUNG_LOOK_MS
    },

    async gc(request, options) {
      const items = await collect(request, options)
      if (!request.dryRun) tell(items)
      const { bytes, partBytes } = spool.usage()
      return {
        dryRun: request.dryRun,
        items: items.slice(0, GC_NAMED_MAX_COUNT),
        count: items.length,
        freedBytes: totalBytes(items),
        leftBytes: bytes + partBytes - (request.dryRun ? totalBytes(items) : 0),
      }
    },
  }
}

/**
 * For a NAR that leaves the spool to make room: the index keeps what it knows if a store path still has the bytes, and
 * forgets the NAR otherwise.
 */
export function createIndexRelease(
  index: LeafIndex,
  store: LocalStore | undefined,
): (narHash: NarHash) => void {
  return (narHash) => {
    const paths = index.nar(narHash)?.storePaths ?? []
    if (paths.some((path) => isValid(store, path, narHash))) index.setInSpool(narHash, false)
    else index.drop(narHash)
  }
}

function isValid(store: LocalStore | undefined, path: StorePath, narHash: NarHash): boolean {
  try {
    const info = store?.pathInfo(hashPartOf(path))
    return info?.narHash === narHash && info.storePath === path
  } catch {
    // Nix's database is busy or gone: then nothing is known to be there, and our copy stays.
    return false
  }
}
