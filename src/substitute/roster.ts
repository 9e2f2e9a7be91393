/**
 * The block sources of one NAR: who may be asked now, who is out and why, how many requests each has under way.
 */
import type { CID } from 'multiformats/cid'
import { LEAF_BYTES } from '../dag/profile.ts'
import { DagError } from '../dag/reader.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import {
  LEAF_HANGS_FACTOR,
  LEAF_LATE_FLOOR_MS,
  LEAF_QUICK_MS,
  NODE_STALL_MS,
  SOURCE_MAX_FAULTS_PER_NAR,
  SOURCE_SILENT_MS,
  WAY_QUIET_MS,
} from '../limits.ts'
import type { BlockSource } from '../source.ts'
import { COST, SourceFaultError, SourceLieError, SourceMissError, SourceRestingError } from '../source.ts'
import { ALL_BLOCKS } from './scores.ts'
import type { Scores } from './scores.ts'

/**
 * Ends a request begun with `started`, the first call only: with its bytes, its error, `stalled` when it was given up
 * for its slowness, `overtaken` when its whole way was, how long another source took that was quicker, or nothing when it is
 * not wanted any more.
 */
type Release = (
  outcome?:
    | { bytes: number; wireBytes?: number; byDifference?: boolean }
    | { error: unknown }
    | { othersTookMs: number }
    | 'stalled'
    | 'overtaken',
) => void

export interface SourceRoster {
  /**
   * The cheapest, least busy source that is not in `except`; undefined when all are busy or out. One on this machine is never busy.
   *
   * @param cap requests under way at a source, by whether it has given right bytes for a whole leaf yet
   */
  pick(except: ReadonlySet<BlockSource>, cap: (isProven: boolean) => number): BlockSource | undefined
  /**
   * Of those that have nothing under way one that may well be quicker: none that failed when it was last asked, nor one that
   * gave nothing right yet and was overtaken already, in this NAR.
   */
  pickIdle(except: ReadonlySet<BlockSource>): BlockSource | undefined
  anyLeft(except: ReadonlySet<BlockSource>): boolean
  /** Those that need not be asked for this block. */
  lacking(cid: CID): BlockSource[]
  /** Those elsewhere that are not out. */
  size(): number
  /** A new round: who is out for mere faults may be asked again, not who lied or let us wait. */
  again(): void
  averageMs(source: BlockSource): number | undefined
  /** Some bytes of a block came, the whole not yet. */
  heard(source: BlockSource): void
  /** Whether one of those to be asked is known to give a leaf in LEAF_QUICK_MS. */
  isQuick(): boolean
  started(source: BlockSource): Release
  /** Milliseconds of the clock that all requests are measured with. */
  now(): number
  /** Why those that are out are out, in one line. */
  reasons(): string
}

/** Of a disk of ours nothing can be learnt about peers. */
function isElsewhere({ cost }: BlockSource): boolean {
  return cost !== COST.local
}

export function createRoster(
  sources: readonly BlockSource[],
  deps: { scores: Scores; clock: () => number; log: Log },
): SourceRoster {
  const { scores, clock, log } = deps
  const inFlight = new Map<BlockSource, number>(sources.map((source) => [source, 0]))
  const faults = new Map<BlockSource, number>()
  const out = new Map<BlockSource, { reason: string; forGood: boolean }>()
  const heardAt = new Map<BlockSource, number>()
  let requests = 0
  /** The newest request when a source last failed. */
  const failedAt = new Map<BlockSource, number>()
  const overtaken = new Set<BlockSource>()

  // One that failed lately is asked only when nobody else is left: back-off must not make a miss of a hit.
  const candidates = (except: ReadonlySet<BlockSource>): BlockSource[] => {
    const left = sources.filter((source) => !out.has(source) && !except.has(source))
    const fit = left.filter((source) => scores.trusted(source.id))
    return fit.length > 0 ? fit : left
  }
  const busy = (source: BlockSource): number => inFlight.get(source) ?? 0
  /** Has given a leaf's worth of right bytes. */
  const isProven = ({ id }: BlockSource): boolean => scores.bytes(id) >= LEAF_BYTES
  const better = (a: BlockSource, b: BlockSource): number =>
    a.cost - b.cost || busy(a) - busy(b) || averageMs(a) - averageMs(b)
  // One that nobody has measured is not the best of all.
  const averageMs = ({ id }: BlockSource): number => scores.averageMs(id) ?? NODE_STALL_MS

  /** One lost connection fails all that was under way on it: that is one fault, not sixteen. */
  const isNewFault = (source: BlockSource, request: number, begunAt: number, reason?: string): boolean => {
    if (request <= (failedAt.get(source) ?? 0)) return false
    failedAt.set(source, requests)
    scores.faulted(source.id, begunAt, reason)
    return true
  }

  const silentMs = (source: BlockSource, begunAt: number): number =>
    clock() - Math.max(begunAt, heardAt.get(source) ?? 0)
  /** For clearly longer than others took, and than it takes as a rule, not one byte came, and no block for any other NAR. */
  const isHanging = (source: BlockSource, begunAt: number, othersTookMs: number): boolean => {
    const usualMs = Math.max(othersTookMs, scores.averageMs(source.id) ?? 0)
    const patienceMs = Math.max(LEAF_LATE_FLOOR_MS, LEAF_HANGS_FACTOR * usualMs)
    return silentMs(source, begunAt) >= patienceMs && !scores.deliveredSince(source.id, clock() - patienceMs)
  }

  const failed = (source: BlockSource, request: number, begunAt: number, error: unknown): void => {
    const reason = messageOf(error)
    if (error instanceof SourceMissError) {
      scores.answered(source.id)
      if (isElsewhere(source)) scores.answered(ALL_BLOCKS)
      return
    }
    if (error instanceof SourceRestingError) {
      if (!out.has(source)) out.set(source, { reason, forGood: false })
      return
    }
    // Of DagErrors only those come here that accuse the source: the block is not what its CID says.
    if (error instanceof SourceLieError || error instanceof DagError) {
      scores.lied(source.id, reason)
      if (out.has(source)) return
      out.set(source, { reason, forGood: true })
      log.warn({ source: source.id }, `source gave wrong bytes and is out: ${reason}`)
      return
    }
    if (!isNewFault(source, request, begunAt, reason)) return
    const count = (faults.get(source) ?? 0) + 1
    faults.set(source, count)
    const wasSilent = silentMs(source, begunAt) >= SOURCE_SILENT_MS
    if ((wasSilent || count >= SOURCE_MAX_FAULTS_PER_NAR) && !out.has(source)) {
      out.set(source, { reason, forGood: wasSilent })
      log.warn({ source: source.id, faults: count }, `source failed and is out for this NAR: ${reason}`)
    } else if (error instanceof SourceFaultError) {
      log.debug({ source: source.id }, reason)
    } else {
      log.warn({ source: source.id, err: error }, `source failed in an unforeseen way: ${reason}`)
    }
  }

  return {
    pick(except, cap) {
      return candidates(except)
        .filter((source) => !isElsewhere(source) || busy(source) < cap(isProven(source)))
        .sort(better)[0]
    },
    pickIdle(except) {
      return candidates(except)
        .filter((source) => busy(source) === 0 && scores.trusted(source.id))
        .filter((source) => isProven(source) || !overtaken.has(source))
        .sort(better)[0]
    },
    lacking: (cid) => sources.filter((source) => source.lacks?.(cid) === true),
    anyLeft: (except) => candidates(except).length > 0,
    size: () => sources.filter((source) => isElsewhere(source) && !out.has(source)).length,
    again() {
      faults.clear()
      for (const [source, { forGood }] of out) if (!forGood) out.delete(source)
    },
    heard(source) {
      heardAt.set(source, clock())
    },
    isQuick: () =>
      candidates(new Set()).some(
        (source) => isElsewhere(source) && (scores.averageMs(source.id) ?? Infinity) < LEAF_QUICK_MS,
      ),
    now: clock,
    averageMs: (source) => scores.averageMs(source.id),
    started(source) {
      const at = clock()
      const request = ++requests
      let open = true
      inFlight.set(source, busy(source) + 1)
      return (outcome) => {
        if (!open) return
        open = false
        inFlight.set(source, busy(source) - 1)
        if (outcome === undefined) return
        if (outcome === 'stalled') {
          const isSilent = silentMs(source, at) >= WAY_QUIET_MS
          if (isNewFault(source, request, at, isSilent ? 'it stalled' : undefined)) {
            log.warn({ source: source.id }, 'source stalled, what it was asked for is asked of the next')
          }
        } else if (outcome === 'overtaken') {
          // One that gave others something meanwhile is slower than the next way, and not at fault.
          if (!scores.deliveredSince(source.id, at) && isNewFault(source, request, at)) {
            log.debug({ source: source.id }, 'source gave nothing, another way took over')
          }
        } else if ('othersTookMs' in outcome) {
          overtaken.add(source)
          if (!isHanging(source, at, outcome.othersTookMs)) return
          log.debug({ source: source.id }, 'source hung until another one had given what it was asked for')
          if (isProven(source)) scores.hung(source.id, at)
          else isNewFault(source, request, at)
        } else if ('bytes' in outcome) {
          const { bytes, wireBytes, byDifference = false } = outcome
          const onWire =
            wireBytes === undefined || !isElsewhere(source) ? undefined : { bytes: wireBytes, byDifference }
          scores.delivered(source.id, bytes, clock() - at, onWire)
          if (isElsewhere(source)) scores.answered(ALL_BLOCKS)
        } else {
          failed(source, request, at, outcome.error)
        }
      }
    },
    reasons: () =>
      out.size === 0
        ? sources.length === 0
          ? 'no block source is configured'
          : 'each was asked and does not have it'
        : [...out.entries()].map(([source, { reason }]) => `${source.id}: ${reason}`).join('; '),
  }
}
