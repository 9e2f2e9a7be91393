import { SPOOL_BACK_OFF_MS, SPOOL_EVICT_MAX_COUNT, SPOOL_EVICT_SLACK, TROUBLE_TOLD_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { NarRef } from '../source.ts'
import { SpoolWriteError } from './errors.ts'
import type { InUse } from './in-use.ts'
import { partPath } from './nar-file.ts'
import type { SpoolLimits } from './quota.ts'
import type { SpoolRows } from './rows.ts'
import { isLately } from '../state/lately.ts'
import { chooseVictims, holdingKey, totalBytes, type Holding } from './victims.ts'

/** A NAR on its way: bytes it will have, bytes it has. */
export interface Reservation {
  readonly narSize: number
  readonly written: () => number
}

/**
 * Who may come into the spool, and who has to go for it. The quota refuses nobody: it is for what stays, so a NAR larger
 * than all of it passes through and is the first to go. The floor refuses, for then the disk is somebody else's.
 */
export interface Room {
  /**
   * Before a NAR is written, its reservation made.
   *
   * @throws SpoolWriteError when the floor does not allow it, or the disk failed a moment ago
   */
  admit(nar: NarRef): Promise<void>
  /** The disk was full in the middle of a NAR. @returns whether there is more room now */
  squeeze(bytes: number): Promise<boolean>
  /** A NAR was not taken: told in one line. If it is the disk's fault others are refused for a while. */
  failed(error: SpoolWriteError): void
  /** Down to quota and floor, as far as nobody reads it, SPOOL_EVICT_MAX_COUNT at most. @returns what went */
  trim(request?: TrimRequest): Promise<Holding[]>
  /** To the log, once a minute for each kind. */
  tellOnce(kind: string, fields: object, message: string): void
  /** Runs while nothing is evicted otherwise. */
  exclusive<T>(work: () => Promise<T>): Promise<T>
}

/** What is wrong with the disk as a whole, and will be so for the next NAR too. */
const DISK_FAILURES = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'ENXIO', 'ESTALE', 'EACCES', 'EPERM'])

export interface TrimRequest {
  /** Instead of the quota. */
  readonly maxBytes?: number
  /** Nothing is removed: what would go next if these had gone. */
  readonly assumeGone?: readonly Holding[]
}

export function createRoom(deps: {
  dir: string
  rows: SpoolRows
  limits: SpoolLimits
  inUse: InUse
  /** By NarHash; Owner: the spool. */
  reservations: ReadonlyMap<NarHash, Reservation>
  /** Removes it, if it has no writer. */
  evict: (holding: Holding) => Promise<void>
  freeBytes: () => number | undefined
  clock: () => number
  log: Log
}): Room {
  const { dir, rows, limits, inUse, reservations, evict, clock, log } = deps
  const bounded = Number.isFinite(limits.maxBytes) || limits.minFreeBytes > 0
  let turn: Promise<unknown> = Promise.resolve()
  let broken: { readonly at: number; readonly by: SpoolWriteError } | undefined
  const told = new Map<string, number>()

  const tellOnce = (kind: string, fields: object, message: string): void => {
    if (isLately(told.get(kind), TROUBLE_TOLD_MS, clock)) return
    told.set(kind, clock())
    log.error(fields, message)
  }

  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work)
    turn = result.catch(() => {})
    return result
  }

  /** Bytes over the quota once all that is on its way has come. A NAR larger than it is in no sum. */
  const overQuota = (maxBytes: number): number => {
    let kept = rows.totals().keepableBytes
    for (const [narHash, { narSize }] of reservations) {
      if (narSize > limits.maxBytes) continue
      kept += narSize - (rows.part(narHash)?.bytes ?? 0)
    }
    return kept - maxBytes
  }

  /** Bytes that are missing above the floor once all that is on its way has come. */
  const shortOfSpace = (): number => {
    const free = bounded ? deps.freeBytes() : undefined
    if (free === undefined) return 0
    let coming = 0
    for (const { narSize, written } of reservations.values()) coming += Math.max(0, narSize - written())
    return limits.minFreeBytes + coming - free
  }

  const candidates = (without: readonly Holding[] = []): Holding[] => {
    const gone = new Set(without.map(holdingKey))
    return rows
      .oldest(SPOOL_EVICT_MAX_COUNT + gone.size)
      .filter((one) => !reservations.has(one.narHash) && !gone.has(holdingKey(one)))
  }

  const remove = async (victims: readonly Holding[], hard: boolean): Promise<Holding[]> => {
    const gone: Holding[] = []
    for (const victim of victims) {
      const { narHash } = victim
      const use = inUse.of(narHash)
      if (reservations.has(narHash) || use === 'open' || (use === 'recent' && !hard)) continue
      await evict(victim)
      gone.push(victim)
    }
    return gone
  }

  const choose = (
    from: readonly Holding[],
    need: { overQuota: number; shortOfSpace: number },
    hard: boolean,
  ): Holding[] =>
    chooseVictims(from, { maxBytes: limits.maxBytes, ...need }, (narHash) => inUse.of(narHash), hard)

  const withSlack = (bytes: number): number =>
    bytes > 0 && Number.isFinite(limits.maxBytes) ? bytes + limits.maxBytes * SPOOL_EVICT_SLACK : bytes

  return {
    exclusive,

    async admit({ narHash, narSize }) {
      if (broken !== undefined && isLately(broken.at, SPOOL_BACK_OFF_MS, clock)) throw broken.by
      if (!bounded) return
      await exclusive(async () => {
        const need = {
          overQuota: withSlack(overQuota(limits.maxBytes)),
          shortOfSpace: shortOfSpace(),
        }
        if (need.overQuota <= 0 && need.shortOfSpace <= 0) return
        const hard = need.shortOfSpace > 0
        await remove(choose(candidates(), need, hard), hard)
        const missing = hard ? shortOfSpace() : 0
        if (missing <= 0) return
        const reason = `${missing} bytes are missing for a NAR of ${narSize} and spool.min_free (${limits.minFreeBytes} bytes)`
        tellOnce('floor', { path: dir }, `spool: no room, NARs that are not here are refused: ${reason}`)
        throw new SpoolWriteError(partPath(dir, narHash), new Error(reason))
      })
    },

    squeeze: (bytes) =>
      exclusive(async () => {
        const need = { overQuota: 0, shortOfSpace: bytes }
        return (await remove(choose(candidates(), need, true), true)).length > 0
      }),

    failed(error) {
      const { code } = (error.cause ?? {}) as NodeJS.ErrnoException
      const ofDisk = DISK_FAILURES.has(String(code))
      if (ofDisk) broken = { at: clock(), by: error }
      const what = ofDisk
        ? `the disk does not take NARs, those that are not here are refused for ${SPOOL_BACK_OFF_MS / 1000} s`
        : 'a NAR could not be written'
      tellOnce(`disk ${code}`, { path: error.path, err: error }, `spool: ${what}: ${messageOf(error.cause)}`)
    },

    trim: ({ maxBytes = limits.maxBytes, assumeGone } = {}) =>
      exclusive(async () => {
        const gone = totalBytes(assumeGone ?? [])
        const kept = totalBytes((assumeGone ?? []).filter(({ bytes }) => bytes <= limits.maxBytes))
        const need = {
          overQuota: overQuota(maxBytes) - kept,
          shortOfSpace: shortOfSpace() - gone,
        }
        const { bytes, pinnedBytes, partBytes, keepableBytes } = rows.totals()
        const tooLarge = bytes - pinnedBytes + partBytes - keepableBytes
        if (need.overQuota <= 0 && need.shortOfSpace <= 0 && tooLarge === 0) return []
        const victims = choose(candidates(assumeGone), need, false)
        return assumeGone === undefined ? remove(victims, false) : victims
      }),

    tellOnce,
  }
}
