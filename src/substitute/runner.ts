/**
 * One way to a NAR's bytes, opened: leaf by leaf from all block sources, or one stream, in order from one byte on.
 * Leaves are checked by the scheduler; the NarHash is the transfer's to prove.
 */
import { sha256 } from '../dag/cid.ts'
import type { LeafBuffers } from '../dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import type { DagLink } from '../dag/reader.ts'
import { RELAY_HELD_AGAINST_COUNT, WAY_QUIET_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { narHashDigest } from '../nix/hash.ts'
import {
  COST,
  isNeighbour,
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  SourceRestingError,
} from '../source.ts'
import type { BlockSource, ByteRange, CallOptions, NarRef, SourceId } from '../source.ts'
import { PageError } from '../upstream/errors.ts'
import { leafLinks } from './dag-walk.ts'
import { NarHashMismatchError, RootMisfitError, WayStalledError } from './errors.ts'
import { fetchChildren } from './fetch-children.ts'
import type { FirstBytes } from './first-bytes.ts'
import { fetchLeaves } from './leaf-scheduler.ts'
import type { LeafShares } from './leaf-shares.ts'
import type { OldLeafAt } from './older-nar.ts'
import type { SourceRoster } from './roster.ts'
import type { Scores } from './scores.ts'
import { firstByteMs, isRelayed, paceId } from './ways.ts'
import type { Way } from './ways.ts'

export interface RunnerDeps {
  /** For the leaves on their way, and how many there may be; both shared by all transfers. */
  readonly buffers: LeafBuffers
  readonly shares: LeafShares
  readonly firstBytes: FirstBytes
  readonly scores: Scores
  /** Children of a root that were fetched ahead. */
  rootChildren(nar: NarRef): readonly DagLink[] | undefined
  /** Leaves that others may tell differences from. */
  readonly oldLeafAt?: OldLeafAt | undefined
  /** Told of bytes that came in buffers of their own, at once. */
  readonly received?: ((bytes: number) => void) | undefined
  readonly clock: () => number
  readonly log: Log
}

/** The next bytes of the NAR. */
interface Piece {
  readonly bytes: Uint8Array
  readonly from: SourceId
  /** Of a whole leaf, when it has been checked against these bytes. */
  readonly digest?: Uint8Array
  /** To be called once, when nobody reads the bytes any more. */
  readonly release?: () => void
}

export interface Runner {
  readonly way: Way
  /** Byte of the NAR at which its first piece begins; of leaves the beginning of one. */
  readonly start: number
  /** Milliseconds of the clock. */
  readonly begunAt: number
  /** Bytes that came, whatever their place: the scheduler sees to it that the next in order comes, too. */
  readonly arrived: number
  /** When the last of them came, or it began. */
  readonly lastAt: number
  /** Called at each arrival; one at a time. */
  onArrival: (() => void) | undefined
  /** Resolves when `next` would have something at once, or the way has ended well. @throws as `next` */
  ready(): Promise<void>
  /** @throws DagError and NarHashMismatchError against whoever told the root; RootMisfitError; the reason of `stop`; why the way ended */
  next(): Promise<IteratorResult<Piece, void>>
  /** Resolves when nothing of it is under way any more. */
  stop(reason: Error): Promise<void>
}

interface RunnerRequest {
  readonly nar: NarRef
  /** Byte of the NAR that is missing first. */
  readonly from: number
  readonly roster: SourceRoster
  /** Bytes before `from`. */
  readonly inHand: (range: ByteRange, options: CallOptions) => Promise<Uint8Array>
}

/** Begins at once. */
export function startRunner(
  way: Way,
  request: RunnerRequest,
  deps: RunnerDeps,
  options: CallOptions,
): Runner {
  const { clock, scores, firstBytes, received } = deps
  const start = way.kind === 'blocks' ? request.from - (request.from % LEAF_BYTES) : request.from
  const begunAt = clock()
  const own = new AbortController()
  const signal = AbortSignal.any([options.signal, own.signal])
  const isUsual = firstByteMs(way) === undefined
  let arrived = 0
  /** Of them those from this machine, which tell nothing of how quick the way is elsewhere. */
  let fromHere = 0
  let lastAt = begunAt
  let over = false
  const onBytes: OnBytes = (count, from, isLent = false) => {
    const isHere = from.cost === COST.local
    lastAt = clock()
    if (arrived === 0 && isUsual && !isHere) firstBytes.came(lastAt - begunAt)
    arrived += count
    if (isHere) fromHere += count
    // What comes in lent buffers is nobody's garbage.
    if (!isLent) received?.(count)
    runner.onArrival?.()
  }
  const pieces =
    way.kind === 'blocks'
      ? leafPieces(way, request, deps, { signal, onBytes })
      : streamPieces(way, request, deps, { signal, onBytes })
  /** Asked for and not taken yet. */
  let first: Promise<IteratorResult<Piece, void>> | undefined

  const end = (): void => {
    if (over) return
    over = true
    if (arrived === 0) {
      if (isUsual) firstBytes.missed(clock() - begunAt)
    } else if (fromHere < arrived / 2 || way.kind === 'stream') {
      scores.paced(paceId(way), arrived, clock() - begunAt)
    }
  }
  const advance = async (): Promise<IteratorResult<Piece, void>> => {
    try {
      const next = await pieces.next()
      if (next.done === true) end()
      return next
    } catch (error) {
      end()
      throw own.signal.aborted ? (own.signal.reason as Error) : error
    }
  }

  const runner: Runner = {
    way,
    start,
    begunAt,
    get arrived() {
      return arrived
    },
    get lastAt() {
      return lastAt
    },
    onArrival: undefined,
    async ready() {
      first ??= advance()
      await first
    },
    next() {
      const next = first ?? advance()
      first = undefined
      return next
    },
    async stop(reason) {
      own.abort(reason)
      await first?.catch(() => {})
      end()
      await pieces.return().catch(() => {})
    },
  }
  return runner
}

/** Bytes a second so far; before the first, as it was of late, and undefined when nobody measured it. */
export function paceOf(
  { way, arrived, begunAt }: Runner,
  { scores, clock }: Pick<RunnerDeps, 'scores' | 'clock'>,
): number | undefined {
  return arrived === 0 ? scores.pace(paceId(way)) : (arrived / Math.max(1, clock() - begunAt)) * 1000
}

type OnBytes = (count: number, from: Pick<BlockSource, 'cost'>, isLent?: boolean) => void
type WatchedOptions = CallOptions & { onBytes: OnBytes }

async function* leafPieces(
  way: Way & { kind: 'blocks' },
  { nar, from, roster, inHand }: RunnerRequest,
  deps: RunnerDeps,
  options: WatchedOptions,
): AsyncGenerator<Piece, void, undefined> {
  const { narHash, narSize } = nar
  const { root } = way
  const firstLeaf = Math.floor(from / LEAF_BYTES)
  const firstChecked = isRelayed(way) ? Math.max(0, firstLeaf - RELAY_HELD_AGAINST_COUNT) : firstLeaf
  if (narSize <= LEAF_BYTES && Buffer.compare(root.multihash.digest, narHashDigest(narHash)) !== 0) {
    throw new NarHashMismatchError(
      `root ${root.toString()}: so small a NAR is one block, and its CID its NarHash`,
    )
  }
  const links = leafLinks(
    { root, narSize, from: firstChecked * LEAF_BYTES },
    async (link, inner) =>
      (link.offset === 0 && link.size === narSize ? deps.rootChildren({ ...nar, root }) : undefined) ??
      (await fetchChildren(link, roster, { ...inner, onBytes: options.onBytes })),
    options,
  )
  for (let leaf = firstChecked; leaf < firstLeaf; leaf++) {
    const { value: link } = await links.next()
    if (link === undefined) break
    const { offset, size } = link
    const bytes = await inHand({ start: offset, end: offset + size }, options)
    if (Buffer.compare(sha256(bytes), link.cid.multihash.digest) === 0) continue
    throw new RootMisfitError(
      `root ${root.toString()} of ${way.told}: leaf ${leaf} is not the one that is here`,
    )
  }
  const share = deps.shares.join()
  try {
    const { buffers, oldLeafAt } = deps
    const leaves = fetchLeaves(links, roster, { ...options, buffers, share: share.count, oldLeafAt })
    for await (const leaf of leaves) {
      const { bytes, from, link } = leaf
      yield { bytes, from, digest: link.cid.multihash.digest, release: () => leaf.release() }
    }
  } finally {
    share.leave()
  }
}

async function* streamPieces(
  way: Way & { kind: 'stream' },
  { nar: { narHash, narSize }, from }: { nar: NarRef; from: number },
  { buffers, scores, clock }: RunnerDeps,
  { signal, onBytes }: WatchedOptions,
): AsyncGenerator<Piece, void, undefined> {
  const { source } = way
  const begun = clock()
  let at = from
  let whole = false
  let lastAt = begun
  try {
    for await (const bytes of source.open({ narHash, narSize }, from, { signal, buffers })) {
      const isLent = buffers.isLent(bytes)
      onBytes(bytes.length, source, isLent)
      lastAt = clock()
      const room = narSize - at
      at += Math.min(bytes.length, room)
      yield {
        bytes: bytes.subarray(0, room),
        from: source.id,
        ...(isLent ? { release: () => buffers.give(bytes) } : {}),
      }
      // What fits may still be right: the NarHash decides.
      if (bytes.length > room) {
        throw new SourceLieError(source.id, `${source.id} gave more than the ${narSize} bytes of ${narHash}`)
      }
    }
    if (at < narSize) {
      throw new SourceFaultError(source.id, `${source.id} ended at byte ${at} of ${narSize}`)
    }
    whole = true
    scores.delivered(source.id, at - from, clock() - begun)
  } catch (error) {
    const { reason } = signal as { reason: unknown }
    // As with blocks: one that gave others something meanwhile is slower than the next way, and not at fault.
    const isFault = reason instanceof WayStalledError && !scores.deliveredSince(source.id, begun)
    // A NAR that was on its way to a neighbour may not be any more.
    const isMiss = error instanceof SourceMissError && isNeighbour(source.id)
    if (signal.aborted ? isFault : !isMiss && !(error instanceof SourceRestingError)) {
      // The user chose the upstreams, and of a page nobody says that it is the NAR.
      const isLie =
        error instanceof SourceLieError &&
        !(error.cause instanceof PageError) &&
        source.cost !== COST.upstream &&
        !signal.aborted
      const hasStopped = at > from && clock() - lastAt >= WAY_QUIET_MS
      const stopped = hasStopped ? `it stopped at byte ${at} of ${narSize}` : undefined
      if (isLie) scores.lied(source.id, error.message)
      else scores.faulted(source.id, begun, isFault ? stopped : messageOf(error))
    }
    throw error
  } finally {
    if (!whole) scores.received(source.id, at - from)
  }
}
