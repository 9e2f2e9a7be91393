/** What the status document says of the bytes that moved since the start: of whole NARs, by source, of single blocks. */
import { SOURCE_KINDS } from '../source.ts'
import type { SourceKind } from '../source.ts'
import type { Scores } from '../substitute/scores.ts'
import type { NarCounts } from '../substitute/tally.ts'
import type { WireBytes, WireCount } from './wire-count.ts'

/** NARs since `started`, by where their bytes came from; those of which there were none are left out. */
export interface NarsReport {
  readonly source: SourceKind
  /** Each counted where most of it came from. Those of `spool` and `store` went out as they lay here, as often as they were asked for. */
  readonly nars: number
  readonly bytes: number
}

/** Bytes of the NARs that were put together since `started`, as they are and not as they were packed. */
export interface FetchedReport {
  readonly bytes: number
  readonly from_upstreams: number
  /** What upstreams did not have to send. */
  readonly saved: number
  /** What nobody had to send: made of older paths, or out of other NARs that are here. */
  readonly made_here: number
  readonly from_neighbours: number
  /** Blocks and whole NARs together. */
  readonly neighbours: readonly { readonly id: string; readonly bytes: number }[]
}

export interface SourceStatus {
  readonly id: string
  readonly bytes: number
  /** What those were on the wire, coded or not; of sources of blocks alone. */
  readonly wire_bytes?: number
  /** Of both those of blocks that came as the difference from one that is here; absent where there were none. */
  readonly by_difference?: WireCounts
  /** Average of a block, milliseconds; absent before the first. */
  readonly average_ms?: number
  readonly faults: number
  readonly lies: number
  /** Left alone for now. */
  readonly out: boolean
}

export interface BlocksReport {
  /** By all sources of blocks. */
  readonly got: WireReport
  /** To peers, over HTTP. */
  readonly given: WireReport
}

interface WireReport extends WireCounts {
  /** Of them those that went as the difference from an older block; absent where there were none. */
  readonly by_difference?: WireCounts
}

interface WireCounts {
  readonly bytes: number
  /** What those were on the wire: fewer when leaves went coded. */
  readonly wire_bytes: number
}

export function describeNars({ byKind }: NarCounts): NarsReport[] {
  return SOURCE_KINDS.flatMap((source) => {
    const count = byKind.get(source)
    return count === undefined ? [] : [{ source, nars: count.nars, bytes: count.bytes }]
  })
}

export function describeFetched({ byKind, byNeighbour }: NarCounts): FetchedReport {
  const of = (kind: SourceKind): number => byKind.get(kind)?.bytes ?? 0
  const bytes = SOURCE_KINDS.reduce(
    (sum, kind) => (kind === 'spool' || kind === 'store' ? sum : sum + of(kind)),
    0,
  )
  return {
    bytes,
    from_upstreams: of('upstream'),
    saved: bytes - of('upstream'),
    made_here: of('rewritten') + of('local'),
    from_neighbours: of('neighbour'),
    neighbours: [...byNeighbour].map(([id, given]) => ({ id, bytes: given })),
  }
}

export function describeSources(scores: Scores): SourceStatus[] {
  // A root is no source; its ways have scores too.
  return [...scores.all()]
    .filter(([id]) => !id.startsWith('blocks:'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, score]) => ({
      id,
      bytes: score.bytes,
      ...(score.wireBytes === undefined ? {} : { wire_bytes: score.wireBytes }),
      ...describeDifferences(score.byDifference),
      ...(score.averageMs === undefined ? {} : { average_ms: Math.round(score.averageMs) }),
      faults: score.faults,
      lies: score.lies,
      out: !scores.usable(id),
    }))
}

export function describeBlocks(got: WireCount, given: WireCount): BlocksReport {
  return { got: describeWire(got), given: describeWire(given) }
}

function describeWire(count: WireCount): WireReport {
  const { bytes, wireBytes } = count.total()
  return { bytes, wire_bytes: wireBytes, ...describeDifferences(count.byDifference()) }
}

function describeDifferences({ bytes, wireBytes }: WireBytes): Pick<WireReport, 'by_difference'> {
  return bytes === 0 ? {} : { by_difference: { bytes, wire_bytes: wireBytes } }
}
