/**
 * One NAR on its way into the spool: one writer, any number of readers who follow it. The only code that checks a
 * NarHash. Which way is followed when is decided in follow.ts and hedge.ts, what readers may have in readers.ts; what
 * came until now lies in nar-in-hand.ts, and who is at fault when it is wrong is told by blame.ts.
 */
import { messageOf } from '../log.ts'
import { WAY_MAX_ROUNDS_COUNT } from '../limits.ts'
import { SourceRestingError } from '../source.ts'
import type { BlockSource, ByteRange, CallOptions, ReadOptions, SourceId } from '../source.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { abortable } from '../upstream/abortable.ts'
import { slowestBlockMs, tellSilence } from './block-sources.ts'
import { createBlame } from './blame.ts'
import type { BlameDeps } from './blame.ts'
import { BlockUnavailableError, NarHashMismatchError, NoSourceError } from './errors.ts'
import { follow } from './follow.ts'
import type { Take } from './follow.ts'
import { createNarInHand } from './nar-in-hand.ts'
import type { NarInHandDeps } from './nar-in-hand.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { createProgress } from './progress.ts'
import { createReaders } from './readers.ts'
import { createRoster } from './roster.ts'
import { paceOf, startRunner } from './runner.ts'
import type { Coming, RelayedWay } from './relayed-way.ts'
import type { Runner, RunnerDeps } from './runner.ts'
import { createWayQueue } from './way-queue.ts'
import { isDoubtful, isRelayed, isUpstream, paceId, wayId } from './ways.ts'
import type { Way } from './ways.ts'

export interface Transfer {
  readonly narSize: number
  /** Bytes from 0 that a reader of the whole may have by now. */
  readonly verifiedTo: number
  /** Where its bytes come from just now: `spool`, `store`, the source of a stream, or `blocks`. */
  readonly from: SourceId | undefined
  /**
   * Bytes of the NAR as they come. Breaks off with an error, never ends early.
   *
   * @throws NoSourceError, NarHashMismatchError
   */
  read(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
  /** Resolves when the whole is verified and safe on disk. */
  readonly done: Promise<void>
}

export interface TransferDeps extends RunnerDeps, NarInHandDeps, BlameDeps {
  readonly blockSources: readonly BlockSource[]
  /** On this machine, asked before all others. They never stand for a peer. */
  readonly here: readonly BlockSource[]
  /** Each way once, cheapest first. Asked for anew when all broke off and there is reason to try them again. */
  ways(options: CallOptions): AsyncGenerator<Way, void, undefined>
  /** The way by a relay, for what comes slowly from an upstream; absent where none may hear of it. */
  readonly relayed?: RelayedWay | undefined
  /**
   * Nobody but a stranger vouches for its bytes: for a while they are kept back until they are proved.
   *
   * @param way undefined for a kept part: whose bytes those are nobody knows any more, nor whether they have rotted
   */
  isUnproven(way: Way | undefined): boolean
}

export interface RunningTransfer extends Transfer {
  /** Resolves as soon as a reader of this range would get its first byte. @throws as `read` */
  firstByte(range: ByteRange, options: CallOptions): Promise<void>
  /** It failed or was given up, and only cleans up after itself: nobody may join any more. */
  readonly ending: boolean
  /** As `done`, for one who waits without reading: keeps it going as a reader does. */
  whole(options: CallOptions): Promise<void>
  /** For a neighbour: as `Readers.follow`. */
  follow(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
}

export function startTransfer(info: VerifiedNarInfo, deps: TransferDeps): RunningTransfer {
  const { narSize, narHash } = info
  const { log, scores } = deps
  const abort = new AbortController()
  const progress = createProgress()
  const inHand = createNarInHand(info, deps, progress)
  const blame = createBlame(info, deps)
  let lastFrom: SourceId | undefined
  /** Who gives bytes now. */
  let followed: Runner | undefined
  const over = new AbortController()
  const signal = AbortSignal.any([abort.signal, over.signal])
  const roster = createRoster([...deps.here, ...deps.blockSources], deps)
  const readers = createReaders(inHand, progress, () =>
    abort.abort(new NoSourceError('nobody waits for this NAR any more')),
  )

  async function run(): Promise<void> {
    const reasons: string[] = []
    await takeUp()
    for (let rounds = 0; rounds < WAY_MAX_ROUNDS_COUNT; rounds++) {
      roster.again()
      const begun = await inHand.open()
      const before = begun.prefix
      if (await round(reasons)) return
      // Again only with more bytes in hand than before, or after a new start.
      if (inHand.file === begun && begun.prefix === before) break
    }
    throw new NoSourceError(
      `no source gave NAR ${narHash} of ${info.storePath}: ${reasons.join('; ') || 'none is known'}`,
    )
  }

  /** Each way once, as long as bytes are missing. @returns whether the NAR is whole and proved */
  async function round(reasons: string[]): Promise<boolean> {
    const queue = createWayQueue(deps.ways({ signal: abort.signal }), (way) => blame.isWrong(way))
    let runner: Runner | undefined
    let failed: string | undefined
    const begin = (way: Way, target: SpoolFile): Runner => {
      const read = async (range: ByteRange, options: CallOptions): Promise<Uint8Array> =>
        Buffer.concat(await Array.fromAsync(target.read(range, options)))
      if (isRelayed(way)) deps.relayed?.begun()
      const request = { nar: info, from: target.prefix, roster, inHand: read }
      return startRunner(way, request, deps, { signal: abort.signal })
    }
    try {
      for (;;) {
        let target = await inHand.open()
        if (target.prefix === narSize) {
          const reason = await prove()
          if (reason === undefined) return true
          reasons.push(reason)
          target = await restart()
        }
        // What is begun already may begin too late by now, or be proved wrong.
        const way: Way | undefined = runner?.way ?? (await queue.take())
        if (way === undefined) return false
        if (!blame.isWrong(way) && blame.isMixed(way)) target = await restart()
        if (blame.isWrong(way) || (runner !== undefined && runner.start > target.prefix)) {
          await runner?.stop(new Error('of no use any more'))
          runner = undefined
          queue.giveBack(way)
          continue
        }
        const from = target.prefix
        const into = target
        if (failed !== undefined)
          log.info({ ...about(way), at: from }, `${nameOf(way)} takes over from ${failed}`)
        const take: Take = (bytes, source, how) => {
          if (deps.isUnproven(way)) readers.holdBack()
          lastFrom = paceId(way)
          return inHand.append(bytes, source, how)
        }
        const current = runner ?? begin(way, target)
        followed = current
        const { failure, next } = await follow(
          current,
          {
            target,
            take,
            doubtful: isDoubtful(way, deps),
            pieceMs: () => (way.kind === 'blocks' ? slowestBlockMs(deps.blockSources, scores) : 0),
            async takeNext() {
              const other = await queue.take()
              if (other === undefined || !blame.isMixed(other, way)) return other
              queue.giveBack(other)
              return undefined
            },
            giveBack: (other) => queue.giveBack(other),
            putOff: (other) => queue.putOff(other),
            begin: (other) => begin(other, into),
            rivalFailed: (rival, error) => reasons.push(ended(rival.way, error)),
            better: isUpstream(way) && !blame.apart ? deps.relayed?.find(coming, { signal }) : undefined,
          },
          deps,
          { signal: abort.signal },
        )
        if (way.kind === 'blocks' && failure === undefined && next !== undefined && current.arrived === 0) {
          tellSilence(deps.blockSources, scores, current.begunAt)
        }
        // It was not at fault, and takes over again if the relay fails.
        if (next !== undefined && isRelayed(next.way) && failure === undefined) queue.giveBack(way)
        runner = next
        failed = failure === undefined && next === undefined ? undefined : wayId(way)
        if (failure !== undefined) reasons.push(ended(way, failure))
        if (target.prefix > from) blame.gave(way)
        // What came by a root that is now known to be wrong is thrown away while it can be.
        if (blame.isTainted && readers.released === 0) await restart()
      }
    } finally {
      await runner?.stop(new Error('the round is over'))
    }
  }

  function coming(): Coming {
    const came = inHand.file?.prefix ?? 0
    return { inHand: came, left: narSize - came, bytesPerS: followed && paceOf(followed, deps) }
  }

  function about(way: Way): { path: unknown; way: string } {
    return { path: info.storePath, way: wayId(way) }
  }

  function nameOf(way: Way): string {
    return way.kind === 'blocks' && isRelayed(way) ? `the relay ${way.told}` : wayId(way)
  }

  /** @returns why, in words */
  function ended(way: Way, error: unknown): string {
    const reason = messageOf(error)
    // Of peers that failed the roster has told, and of those that have nothing there is nothing to tell.
    const isTold = error instanceof BlockUnavailableError || error instanceof SourceRestingError
    const level = isTold ? 'debug' : 'warn'
    log[level]({ ...about(way), at: inHand.file?.prefix ?? 0 }, `a source of the NAR failed: ${reason}`)
    blame.failed(way, error)
    return reason
  }

  /** Goes on where an earlier run ended. */
  async function takeUp(): Promise<void> {
    const { prefix } = await inHand.open()
    if (prefix === 0) return
    if (deps.isUnproven(undefined)) readers.holdBack()
    await inHand.rehash({ signal: abort.signal })
    blame.tookUp()
    lastFrom = 'spool'
  }

  /** Commits the NAR if its hash is right. @returns why it is not */
  async function prove(): Promise<string | undefined> {
    const came = inHand.finish()
    if (came.narHash !== narHash) return blame.refuted(came.narHash)
    blame.proved()
    await inHand.commit(came.plan)
    return undefined
  }

  /** Throws the bytes away and begins anew; impossible once a reader has some of them. */
  async function restart(): Promise<SpoolFile> {
    if (readers.released > 0) {
      throw new NarHashMismatchError(
        `NAR ${narHash} proved wrong after ${readers.released} bytes of it had gone out`,
      )
    }
    // Readers look at the file before they hand anything out; nothing may be awaited since `released` was looked at.
    const gone = inHand.throwAway()
    blame.beginAnew()
    readers.beginAnew()
    lastFrom = undefined
    await gone
    return inHand.open()
  }

  const done = run()
    .catch(async (error: unknown) => {
      const failure = error instanceof Error ? error : new Error(String(error))
      await inHand.abandon(failure)
      throw failure
    })
    .finally(() => {
      over.abort()
      readers.close()
    })
  // Whoever reads hears of the failure; with no reader left nobody needs to.
  done.catch(() => {})

  return {
    narSize,
    get verifiedTo() {
      return readers.releasable(narSize)
    },
    get from() {
      return lastFrom
    },
    get ending() {
      return inHand.failure !== undefined || abort.signal.aborted
    },
    done,
    firstByte: (range, options) => readers.firstByte(range, options),
    whole: ({ signal }) => readers.waiting(() => abortable(done, signal)),
    read: (range, options) => readers.read(range, options),
    follow: (range, options) => readers.follow(range, options),
  }
}
