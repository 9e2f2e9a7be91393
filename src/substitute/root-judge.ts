/**
 * Whether the root CID that somebody told for a NAR is the NAR's own. The bytes are hashed as they come and kept nowhere:
 * a look at what nobody asked for must not cost the spool a NAR that somebody did ask for.
 */
import type { CID } from 'multiformats/cid'
import { createPlanner, planNar } from '../dag/planner.ts'
import type { NarPlan, Planner } from '../dag/planner.ts'
import { DagError } from '../dag/reader.ts'
import { AUDIT_STALL_MS, AUDIT_WINDOW_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { SourceFaultError, SourceLieError } from '../source.ts'
import type { CallOptions, SourceId, StreamSource } from '../source.ts'
import type { BlockSources } from './block-sources.ts'
import { leafLinks } from './dag-walk.ts'
import { BlockUnavailableError, NarHashMismatchError, WayStalledError } from './errors.ts'
import { fetchChildren } from './fetch-children.ts'
import { fetchLeaves } from './leaf-scheduler.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Resolver } from './resolve.ts'
import { createRoster } from './roster.ts'
import type { Scores } from './scores.ts'
import type { Transfers } from './transfers.ts'
import { findWays, wayId } from './ways.ts'
import type { Way } from './ways.ts'

/** What may be fetched. Bytes of NARs: compression makes it less on the wire, interior nodes and doubled leaves a little more. */
export interface Purse {
  /** Sets them aside before the first of them is asked for. @returns undefined when there are not so many */
  take(bytes: number): { giveBack(unused: number): void } | undefined
}

/**
 * `wrong`: proved, by the signed NarHash. `computed` is the right root; absent when the told one was seen to lead to
 * other bytes, and the NAR itself was not. `unavailable`: nobody gave the bytes. `too-dear`: nor could more be asked for.
 */
export type RootVerdict = (
  | { readonly outcome: 'right' }
  | { readonly outcome: 'wrong'; readonly computed?: CID; readonly reason: string }
  | { readonly outcome: 'unavailable'; readonly reason: string }
  | { readonly outcome: 'too-dear'; readonly reason: string }
) & {
  /** From the network. */
  readonly fetchedBytes: number
}

export interface RootJudge {
  /** @throws what the signal says */
  judge(
    info: VerifiedNarInfo,
    told: { root: CID; from: SourceId },
    purse: Purse,
    options: CallOptions,
  ): Promise<RootVerdict>
}

type WatchedOptions = CallOptions & { onBytes: (count: number) => void }

export function createRootJudge(deps: {
  resolver: Resolver
  transfers: Pick<Transfers, 'here'>
  blockSources: BlockSources
  scores: Scores
  clock: () => number
  log: Log
}): RootJudge {
  const { resolver, transfers, scores, log } = deps

  /** Read again although the index knows its root: rows say maybe, bytes decide. */
  async function fromDisk(info: VerifiedNarInfo, options: CallOptions): Promise<NarPlan | undefined> {
    try {
      const bytes = await transfers.here(info, { ...options, reuse: true })
      const plan = bytes && (await planNar(bytes))
      return plan?.narHash === info.narHash ? plan : undefined
    } catch (error) {
      if (error instanceof BlockUnavailableError) return undefined
      throw error
    }
  }

  /** The told root first: its own blocks judge it, and cost no upstream anything. */
  async function* waysTo(
    info: VerifiedNarInfo,
    own: Way,
    options: CallOptions,
  ): AsyncGenerator<Way, void, undefined> {
    const blockSources = deps.blockSources(info)
    if (blockSources.length > 0) yield own
    for await (const way of findWays(info, { resolver, scores, blockSources }, options)) {
      if (wayId(way) !== wayId(own)) yield way
    }
  }

  async function readLeaves(
    root: CID,
    info: VerifiedNarInfo,
    planner: Planner,
    options: WatchedOptions,
  ): Promise<void> {
    const { narSize } = info
    const roster = createRoster(deps.blockSources(info), deps)
    const { onBytes } = options
    const links = leafLinks(
      { root, narSize, from: 0 },
      (link, inner) => fetchChildren(link, roster, { ...inner, onBytes }),
      options,
    )
    const share = (): number => AUDIT_WINDOW_COUNT
    for await (const leaf of fetchLeaves(links, roster, { ...options, share })) {
      planner.addLeaf(leaf.bytes, leaf.link.cid.multihash.digest)
      leaf.release()
    }
  }

  /** From one way alone, so that its bytes are its own. @throws DagError, NarHashMismatchError; why the way ended */
  async function follow(way: Way, info: VerifiedNarInfo, options: WatchedOptions): Promise<NarPlan> {
    const { narHash, narSize } = info
    const planner = createPlanner()
    if (way.kind === 'blocks') await readLeaves(way.root, info, planner, options)
    else await readStream(way.source, { narHash, narSize }, planner, options)
    const plan = planner.finish()
    if (plan.narHash === narHash) return plan
    throw new NarHashMismatchError(`${wayId(way)} has bytes that hash to ${plan.narHash}`)
  }

  /** As `follow`, given up when nothing comes any more. */
  async function followWatched(
    way: Way,
    info: VerifiedNarInfo,
    onBytes: (count: number) => void,
    options: CallOptions,
  ): Promise<NarPlan> {
    const stall = new AbortController()
    const timer = setTimeout(
      () => stall.abort(new WayStalledError(`${wayId(way)}: nothing came for ${AUDIT_STALL_MS} ms`)),
      AUDIT_STALL_MS,
    )
    try {
      return await follow(way, info, {
        signal: AbortSignal.any([options.signal, stall.signal]),
        onBytes(count) {
          timer.refresh()
          onBytes(count)
        },
      })
    } catch (error) {
      throw stall.signal.aborted ? (stall.signal.reason as Error) : error
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    async judge(info, told, purse, options) {
      const { narSize } = info
      const compare = ({ root }: NarPlan, fetchedBytes: number): RootVerdict =>
        root.equals(told.root)
          ? { outcome: 'right', fetchedBytes }
          : { outcome: 'wrong', computed: root, reason: `the NAR has CID ${root.toString()}`, fetchedBytes }
      const here = await fromDisk(info, options)
      if (here !== undefined) return compare(here, 0)

      const own: Way = { kind: 'blocks', root: told.root, told: told.from }
      const reasons: string[] = []
      let before = 0
      for await (const way of waysTo(info, own, options)) {
        const setAside = purse.take(narSize)
        if (setAside === undefined) {
          reasons.push(`no ${narSize} bytes more may be fetched now`)
          return { outcome: 'too-dear', reason: reasons.join('; '), fetchedBytes: before }
        }
        let came = 0
        try {
          const plan = await followWatched(
            way,
            info,
            (count) => {
              came = Math.min(narSize, came + count)
            },
            options,
          )
          return compare(plan, before + came)
        } catch (error) {
          options.signal.throwIfAborted()
          const reason = messageOf(error)
          reasons.push(reason)
          log.debug({ path: info.storePath, way: wayId(way) }, `an audit got no NAR this way: ${reason}`)
          if (error instanceof DagError || error instanceof NarHashMismatchError) {
            if (way === own) return { outcome: 'wrong', reason, fetchedBytes: before + came }
            // Whose bytes these are has nothing to do with what is judged here.
            scores.lied(wayId(way), reason)
          }
        } finally {
          before += came
          setAside.giveBack(narSize - came)
        }
      }
      const reason = reasons.join('; ') || 'no source of its bytes is known'
      return { outcome: 'unavailable', reason, fetchedBytes: before }
    },
  }
}

async function readStream(
  source: StreamSource,
  nar: Pick<VerifiedNarInfo, 'narHash' | 'narSize'>,
  planner: Planner,
  { signal, onBytes }: WatchedOptions,
): Promise<void> {
  let left = nar.narSize
  for await (const bytes of source.open(nar, 0, { signal })) {
    left -= bytes.length
    if (left < 0) throw new SourceLieError(source.id, `${source.id} gave more than ${nar.narSize} bytes`)
    onBytes(bytes.length)
    planner.update(bytes)
  }
  if (left > 0) throw new SourceFaultError(source.id, `${source.id} ended ${left} bytes early`)
}
