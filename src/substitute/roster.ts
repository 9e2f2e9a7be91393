/**
 * The block sources of one NAR: who may be asked now, who is out and why, how many requests each has under way.
 */
import { DagError } from '../dag/reader.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { SOURCE_MAX_FAULTS_PER_NAR } from '../limits.ts'
import type { BlockSource } from '../source.ts'
import { SourceFaultError, SourceLieError, SourceMissError } from '../source.ts'
import type { Scores } from './scores.ts'

/**
 * Ends a request begun with `started`, the first call only: with its bytes, its error, `stalled` when it was given up
 * for its slowness, or nothing when it was overtaken.
 */
type Release = (outcome?: { bytes: number } | { error: unknown } | 'stalled') => void

export interface SourceRoster {
  /** The cheapest, least busy source that is not in `except`; undefined when all are busy or out. */
  pick(except: ReadonlySet<BlockSource>, cap: () => number): BlockSource | undefined
  /** As `pick`, of those that have nothing under way. */
  pickIdle(except: ReadonlySet<BlockSource>): BlockSource | undefined
  anyLeft(except: ReadonlySet<BlockSource>): boolean
  /** Those that are not out. */
  size(): number
  averageMs(source: BlockSource): number | undefined
  started(source: BlockSource): Release
  /** Why those that are out are out, in one line. */
  reasons(): string
}

export function createRoster(
  sources: readonly BlockSource[],
  deps: { scores: Scores; clock: () => number; log: Log; onDelivered?: () => void },
): SourceRoster {
  const { scores, clock, log } = deps
  const inFlight = new Map<BlockSource, number>(sources.map((source) => [source, 0]))
  const faults = new Map<BlockSource, number>()
  const out = new Map<BlockSource, string>()
  let requests = 0
  /** The newest request when a source last failed. */
  const failedAt = new Map<BlockSource, number>()

  // One that failed lately is asked only when nobody else is left: back-off must not make a miss of a hit.
  const candidates = (except: ReadonlySet<BlockSource>): BlockSource[] => {
    const left = sources.filter((source) => !out.has(source) && !except.has(source))
    const fit = left.filter((source) => scores.usable(source.id))
    return fit.length > 0 ? fit : left
  }
  const busy = (source: BlockSource): number => inFlight.get(source) ?? 0
  const better = (a: BlockSource, b: BlockSource): number =>
    a.cost - b.cost || busy(a) - busy(b) || (scores.averageMs(a.id) ?? 0) - (scores.averageMs(b.id) ?? 0)

  /** One lost connection fails all that was under way on it: that is one fault, not sixteen. */
  const isNewFault = (source: BlockSource, request: number): boolean => {
    if (request <= (failedAt.get(source) ?? 0)) return false
    failedAt.set(source, requests)
    scores.faulted(source.id)
    return true
  }

  const failed = (source: BlockSource, request: number, error: unknown): void => {
    const reason = messageOf(error)
    if (error instanceof SourceMissError) return
    // Of DagErrors only those come here that accuse the source: the block is not what its CID says.
    if (error instanceof SourceLieError || error instanceof DagError) {
      scores.lied(source.id)
      if (out.has(source)) return
      out.set(source, reason)
      log.warn({ source: source.id }, `source gave wrong bytes and is out: ${reason}`)
      return
    }
    if (!isNewFault(source, request)) return
    const count = (faults.get(source) ?? 0) + 1
    faults.set(source, count)
    if (count >= SOURCE_MAX_FAULTS_PER_NAR && !out.has(source)) {
      out.set(source, reason)
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
        .filter((source) => busy(source) < cap())
        .sort(better)[0]
    },
    pickIdle(except) {
      return candidates(except)
        .filter((source) => busy(source) === 0)
        .sort(better)[0]
    },
    anyLeft: (except) => candidates(except).length > 0,
    size: () => sources.length - out.size,
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
          if (isNewFault(source, request)) {
            log.warn({ source: source.id }, 'source stalled, what it was asked for is asked of the next')
          }
        } else if ('bytes' in outcome) {
          scores.delivered(source.id, outcome.bytes, clock() - at)
          deps.onDelivered?.()
        } else {
          failed(source, request, outcome.error)
        }
      }
    },
    reasons: () =>
      out.size === 0
        ? sources.length === 0
          ? 'no block source is configured'
          : 'each was asked and does not have it'
        : [...out.entries()].map(([source, reason]) => `${source.id}: ${reason}`).join('; '),
  }
}
