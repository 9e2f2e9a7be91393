/** "Give me these bytes": out of what is here, else one running transfer per NAR, shared by all who ask. */
import {
  LEAF_BUFFERS_COUNT,
  LEAF_WINDOW_COUNT,
  LEAVES_MAX_COUNT,
  NAR_FIRST_BYTE_DEADLINE_MS,
  TRANSFERS_MAX_COUNT,
  UNPROVEN_HELD_MAX_BYTES,
  WRONG_BEGINNING_MS,
  WRONG_BEGINNINGS_MAX_COUNT,
} from '../limits.ts'
import { createLeafBuffers } from '../dag/leaf-buffers.ts'
import { createNarProver } from '../dag/nar-prover.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { isNeighbour } from '../source.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { Spool } from '../spool/spool.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { AlongFinder } from '../swarm/along-finder.ts'
import type { RelayFinder } from '../swarm/relay-finder.ts'
import { createAlongWays } from './along-ways.ts'
import { BlockUnavailableError, NarHashMismatchError, NoSourceError } from './errors.ts'
import { createFirstBytes } from './first-bytes.ts'
import { createHints } from './hints.ts'
import type { BlockSources } from './block-sources.ts'
import { createLateIndex } from './late-index.ts'
import { createLeafShares } from './leaf-shares.ts'
import { createLocalLeaves } from './local-leaves.ts'
import { createLocalNars } from './local-nars.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { OlderLeaves } from './older-leaves.ts'
import { createProber } from './probe.ts'
import { createProgress } from './progress.ts'
import { createRelayedWay } from './relayed-way.ts'
import type { RelayedWay } from './relayed-way.ts'
import type { Resolver } from './resolve.ts'
import type { Rewriting } from './rewriting.ts'
import type { Scores } from './scores.ts'
import { createTally } from './tally.ts'
import type { NarCounts } from './tally.ts'
import { startTransfer } from './transfer.ts'
import type { RunningTransfer, Transfer } from './transfer.ts'
import { createUnderWay } from './under-way.ts'
import type { UnderWay } from './under-way.ts'
import { findWays, isStranger } from './ways.ts'
import type { Way } from './ways.ts'

export interface Transfers {
  /**
   * Resolves when a reader of `range` would get its first byte at once, from the disk or as soon as the disk has failed.
   *
   * @param range what will be read first; the whole NAR by default
   * @throws NoSourceError when no source gives it in time
   */
  open(info: VerifiedNarInfo, range: ByteRange | undefined, options: CallOptions): Promise<Transfer>
  /** Its narinfo has just gone out to Nix: gets ready for the request for its bytes, as far as the budget allows. */
  hint(info: VerifiedNarInfo): void
  /** Fetches it to the end: for `verify` and for tests of the engine. */
  fetch(info: VerifiedNarInfo, options: CallOptions): Promise<void>
  /** The same for others: by the streams of upstreams alone, for whoever asks may be the neighbour that would be asked. */
  fetchUpstream(info: VerifiedNarInfo, options: CallOptions): Promise<void>
  /**
   * The whole NAR out of spool or store, each leaf hashed; undefined when it is not here. Never asks the network.
   *
   * @throws BlockUnavailableError, at any byte, when it is not here any more
   */
  here(info: VerifiedNarInfo, options: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined>
  /** NARs moving now. */
  running(): number
  /** Where the bytes of NARs came from so far. */
  counts(): NarCounts
  /** The same, for neighbours. */
  readonly underWay: UnderWay
  /** Ends work in the background. */
  close(): void
}

export function createTransfers(deps: {
  resolver: Resolver
  spool: Spool
  index: LeafIndex
  blocks: LocalBlocks
  store: LocalStore | undefined
  blockSources: BlockSources
  /** Absent: NARs are not made of older paths. */
  rewriting?: Rewriting | undefined
  /** Absent: nobody is asked for differences. */
  olderLeaves?: OlderLeaves | undefined
  scores: Scores
  /** Whether others may have this NAR once it is here. */
  shareable(info: VerifiedNarInfo): boolean
  badRoot(info: VerifiedNarInfo, way: Way): void
  /** Asks neighbours whether it is on its way to one of them; undefined when they are not to hear of it. */
  along?: (info: VerifiedNarInfo) => Pick<AlongFinder, 'find'> | undefined
  /** Asks relays for it; undefined when they are not to hear of it. */
  relays?: (info: VerifiedNarInfo) => Pick<RelayFinder, 'relays' | 'find'> | undefined
  /** Told of the bytes of all NARs as they come. */
  received?: (bytes: number) => void
  clock: () => number
  log: Log
}): Transfers {
  const { resolver, spool, index, scores, clock, log } = deps
  const running = new Map<NarHash, RunningTransfer>()
  const buffers = createLeafBuffers(LEAF_BUFFERS_COUNT)
  const shares = createLeafShares({ total: LEAVES_MAX_COUNT, each: LEAF_WINDOW_COUNT })
  const firstBytes = createFirstBytes()
  const tally = createTally()
  const prober = createProber(deps)
  const closing = new AbortController()
  const locals = createLocalNars(deps, closing.signal)
  const hints = createHints({
    ...deps,
    isHere: (info) => running.has(info.narHash) || locals.has(info),
    running: () => running.size,
    fetch: async (info, options) => (await begin(info, options)).whole(options),
  })
  const underWay = createUnderWay({ clock })
  const ended = createProgress()
  const wrongBeginnings = createFading<NarHash, true>({
    max: WRONG_BEGINNINGS_MAX_COUNT,
    maxAgeMs: WRONG_BEGINNING_MS,
    clock,
  })
  const late = createLateIndex(
    { isIdle: () => running.size === 0, index: (info, options) => locals.index(info, options) },
    closing,
  )

  /** Waits for its turn when too many NARs are on their way, and for one that is just ending. */
  async function begin(
    info: VerifiedNarInfo,
    { signal }: CallOptions,
    isUpstreamOnly = false,
  ): Promise<RunningTransfer> {
    for (;;) {
      const known = running.get(info.narHash)
      if (known === undefined ? running.size < TRANSFERS_MAX_COUNT : !known.ending) break
      await ended.wait(signal)
    }
    return start(info, isUpstreamOnly)
  }

  function start(info: VerifiedNarInfo, isUpstreamOnly: boolean): RunningTransfer {
    const known = running.get(info.narHash)
    if (known !== undefined) return known
    const blockSources = isUpstreamOnly ? [] : deps.blockSources(info)
    const guess = deps.rewriting?.guess(info)
    const [told] = resolver.offer(info).roots
    const stopProbing = told && prober.watch({ root: told.root, narSize: info.narSize }, blockSources)
    const along = createAlongWays(info, isUpstreamOnly ? undefined : deps.along?.(info), () =>
      underWay.turn(),
    )
    const transfer = startTransfer(info, {
      createFile: () => spool.create(info),
      ways: (options) =>
        findWays(info, { resolver, scores, blockSources, along, guess, isUpstreamOnly }, options),
      blockSources,
      here: [
        // Who reads along has the bytes before the NarHash proves that they belong to this NAR.
        createLocalLeaves(deps.blocks, deps.shareable(info) ? 'shared' : 'all'),
        ...(guess === undefined ? [] : [guess.leaves]),
      ],
      oldLeafAt: deps.olderLeaves?.of(info),
      relayed: isUpstreamOnly ? undefined : relayedWayOf(info),
      buffers,
      shares,
      firstBytes,
      received: deps.received,
      rootChildren: (nar) => hints.rootChildren(nar),
      scores,
      // Peers ask by leaf. Who shares nothing needs none of them now.
      createProver: () => createNarProver(deps.shareable(info) ? 'hashed' : 'given'),
      finished(plan) {
        if (plan === undefined) late.add(info)
        else index.put(plan, { shared: deps.shareable(info), inSpool: true })
      },
      // Else a neighbour could hold up whatever it likes, with a root of its own.
      disputed: () =>
        wrongBeginnings.has(info.narHash) ||
        resolver.offer(info).roots.filter(({ from }) => !isNeighbour(from)).length > 1,
      isUnproven: (way) => info.narSize <= UNPROVEN_HELD_MAX_BYTES && (way === undefined || isStranger(way)),
      count: (bySource, isWhole) => tally.came(bySource, isWhole),
      apart: wrongBeginnings.has(info.narHash),
      badRoot(way) {
        if (way.kind === 'blocks') resolver.refuseRoot(info, way.root)
        deps.badRoot(info, way)
      },
      clock,
      log,
    })
    running.set(info.narHash, transfer)
    // Whoever asked a relay is to have the blocks, and not to read all of it along.
    if (!isUpstreamOnly) {
      underWay.add({
        info,
        get part() {
          return along.part
        },
        follow: (range, options) => transfer.follow(range, options),
      })
    }
    late.busy()
    const end = (): void => {
      stopProbing?.()
      running.delete(info.narHash)
      underWay.remove(info.narHash)
      ended.notify()
    }
    transfer.done.then(end, (error: unknown) => {
      if (error instanceof NarHashMismatchError) wrongBeginnings.set(info.narHash, true)
      end()
    })
    return transfer
  }

  function relayedWayOf(info: VerifiedNarInfo): RelayedWay | undefined {
    const finder = deps.relays?.(info)
    const older = deps.olderLeaves
    if (finder === undefined || older === undefined) return undefined
    return createRelayedWay(info, { finder, older, log })
  }

  /** @throws NoSourceError for the rest of a NAR whose beginning went out wrong */
  async function refuseWrongBeginning(
    { narHash, storePath }: VerifiedNarInfo,
    { signal }: CallOptions,
  ): Promise<void> {
    while (running.get(narHash)?.ending === true) await ended.wait(signal)
    if (!wrongBeginnings.has(narHash)) return
    throw new NoSourceError(`NAR ${narHash} of ${storePath}: its beginning went out wrong just now`)
  }

  /**
   * What is here, whose bytes are first looked at when they are read: a disk that does not give them any more is replaced by
   * the network at that byte (P3). Undefined when it is not here.
   */
  async function local(info: VerifiedNarInfo, options: CallOptions): Promise<Transfer | undefined> {
    const reader = await locals.open(info, options)
    if (reader === undefined) return undefined
    const { narSize } = info
    const { from } = reader
    let instead: Transfer | undefined
    return {
      narSize,
      verifiedTo: narSize,
      get from() {
        return instead === undefined ? from : instead.from
      },
      done: Promise.resolve(),
      async *read(wanted, inner) {
        let at = wanted.start
        try {
          for await (const bytes of reader.read(wanted, inner)) {
            at += bytes.length
            yield bytes
          }
        } catch (error) {
          if (!(error instanceof BlockUnavailableError)) throw error
          await locals.forget(info, error)
          const rest = { start: at, end: wanted.end }
          // Once bytes went out there is no 404 any more: then it takes the time it takes.
          instead = at === wanted.start ? await remote(info, rest, inner) : await begin(info, inner)
          yield* instead.read(rest, inner)
        } finally {
          const bytes = at - wanted.start
          tally.wentOut(from, bytes, bytes === narSize)
        }
      },
    }
  }

  /** @throws NoSourceError when no source gives the first byte in time */
  async function remote(info: VerifiedNarInfo, range: ByteRange, options: CallOptions): Promise<Transfer> {
    const deadline = AbortSignal.timeout(NAR_FIRST_BYTE_DEADLINE_MS)
    const signal = AbortSignal.any([options.signal, deadline])
    try {
      const transfer = await begin(info, { signal })
      await transfer.firstByte(range, { signal })
      return transfer
    } catch (error) {
      if (error instanceof NoSourceError || options.signal.aborted) throw error
      const reason = deadline.aborted
        ? `no verified byte within ${NAR_FIRST_BYTE_DEADLINE_MS} ms`
        : messageOf(error)
      throw new NoSourceError(`NAR ${info.narHash} of ${info.storePath}: ${reason}`, { cause: error })
    }
  }

  return {
    underWay,

    hint(info) {
      underWay.expect(info)
      hints.hint(info)
    },

    async open(info, wanted, options) {
      hints.claimed(info)
      const range = wanted ?? { start: 0, end: info.narSize }
      if (range.start > 0) await refuseWrongBeginning(info, options)
      return (await local(info, options)) ?? remote(info, range, options)
    },

    async fetch(info, options) {
      if ((await locals.open(info, options)) !== undefined) return
      await (await begin(info, options)).whole(options)
    },

    async fetchUpstream(info, options) {
      await (await begin(info, options, true)).whole(options)
    },

    async here(info, options) {
      const read = await locals.openHashed(info, options)
      return read?.({ start: 0, end: info.narSize }, options)
    },

    running: () => running.size,
    counts: () => tally.total(),
    close: () => closing.abort(new Error('narswarm is closing')),
  }
}
