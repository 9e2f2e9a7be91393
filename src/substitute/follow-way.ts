/**
 * One way to a NAR's bytes, followed until the NAR is whole or the way ends: leaf by leaf from all block sources, or
 * one stream. Checks leaves through the scheduler; the NarHash is the transfer's to prove.
 */
import type { LeafBuffers } from '../dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { WRITES_BEHIND_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import { narHashDigest } from '../nix/hash.ts'
import { SourceFaultError, SourceLieError } from '../source.ts'
import type { BlockSource, CallOptions, NarRef, SourceId } from '../source.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { leafLinks } from './dag-walk.ts'
import { NarHashMismatchError, WayStalledError } from './errors.ts'
import { fetchChildren } from './fetch-children.ts'
import { fetchLeaves } from './leaf-scheduler.ts'
import { createRoster } from './roster.ts'
import type { Scores } from './scores.ts'
import { watchForStall } from './stall-watch.ts'
import { wayId } from './ways.ts'
import type { Way } from './ways.ts'
import { createWriteBehind } from './write-behind.ts'

export interface FollowDeps {
  readonly blockSources: readonly BlockSource[]
  /** For the leaves on their way; shared by all transfers. */
  readonly buffers: LeafBuffers
  readonly scores: Scores
  readonly clock: () => number
  readonly log: Log
}

/**
 * The next bytes of the NAR, hashed when it returns, on disk when its promise resolves.
 *
 * @param digest of a whole leaf, when it has been checked against these bytes
 */
export type Take = (bytes: Uint8Array, from: SourceId, digest?: Uint8Array) => Promise<void>

export interface FollowRequest {
  readonly nar: NarRef
  /** `take` appends to it. */
  readonly target: Pick<SpoolFile, 'prefix'>
  readonly take: Take
  /** Whether there is a way after this one; it may have to ask over the network. */
  isOther(): Promise<boolean>
}

/**
 * A way that stands still is given up if there is another one. All that was taken is on disk when this returns or throws.
 *
 * @throws SpoolWriteError; DagError and NarHashMismatchError against whoever told the root; else why the way ended
 */
export async function followWay(
  way: Way,
  request: FollowRequest,
  deps: FollowDeps,
  options: CallOptions,
): Promise<void> {
  const { target } = request
  const watch = watchForStall(wayId(way), {
    clock: deps.clock,
    prefix: () => target.prefix,
    isOther: () => request.isOther(),
  })
  const signal = AbortSignal.any([options.signal, watch.signal])
  try {
    if (way.kind === 'blocks') await byBlocks(way, request, deps, () => watch.delivered(), { signal })
    else await byStream(way, request, deps, { signal })
  } catch (error) {
    throw watch.signal.aborted ? (watch.signal.reason as Error) : error
  } finally {
    watch.stop()
  }
}

async function byBlocks(
  way: Way & { kind: 'blocks' },
  { nar: { narHash, narSize }, target, take }: FollowRequest,
  deps: FollowDeps,
  onDelivered: () => void,
  options: CallOptions,
): Promise<void> {
  const { scores, clock, log } = deps
  if (narSize <= LEAF_BYTES && Buffer.compare(way.root.multihash.digest, narHashDigest(narHash)) !== 0) {
    throw new NarHashMismatchError(
      `root ${way.root.toString()}: so small a NAR is one block, and its CID its NarHash`,
    )
  }
  const roster = createRoster(deps.blockSources, { scores, clock, log, onDelivered })
  const links = leafLinks(
    { root: way.root, narSize, from: target.prefix },
    (link, inner) => fetchChildren(link, roster, inner),
    options,
  )
  const writes = createWriteBehind(WRITES_BEHIND_COUNT)
  // Of the first leaf only the end may be missing.
  let skip = target.prefix % LEAF_BYTES
  try {
    for await (const leaf of fetchLeaves(links, roster, { ...options, buffers: deps.buffers })) {
      const { bytes, from, link } = leaf
      const written =
        skip === 0 ? take(bytes, from, link.cid.multihash.digest) : take(bytes.subarray(skip), from)
      skip = 0
      await writes.add(written.finally(() => leaf.release()))
    }
  } finally {
    await writes.drain()
  }
}

async function byStream(
  way: Way & { kind: 'stream' },
  { nar: { narHash, narSize }, target, take }: FollowRequest,
  { scores, clock }: FollowDeps,
  options: CallOptions,
): Promise<void> {
  const { source } = way
  const begun = clock()
  const from = target.prefix
  const writes = createWriteBehind(WRITES_BEHIND_COUNT)
  /** Where the writes under way will end. */
  let at = from
  try {
    for await (const bytes of source.open({ narHash, narSize }, from, options)) {
      const room = narSize - at
      at += Math.min(bytes.length, room)
      await writes.add(take(bytes.subarray(0, room), source.id))
      // What fits may still be right: the NarHash decides.
      if (bytes.length > room) {
        throw new SourceLieError(source.id, `${source.id} gave more than the ${narSize} bytes of ${narHash}`)
      }
    }
    if (at < narSize) {
      throw new SourceFaultError(source.id, `${source.id} ended at byte ${at} of ${narSize}`)
    }
  } catch (error) {
    if (!options.signal.aborted || options.signal.reason instanceof WayStalledError) scores.faulted(source.id)
    throw error
  } finally {
    await writes.drain()
  }
  scores.delivered(source.id, target.prefix - from, clock() - begun)
}
