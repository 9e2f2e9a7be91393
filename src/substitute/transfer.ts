/**
 * One NAR on its way into the spool: one writer, any number of readers who follow it. The only code that checks a
 * NarHash. Which way is followed when is decided in follow.ts and hedge.ts, what readers may have in readers.ts.
 */
import { messageOf } from '../log.ts'
import type { NarPlan } from '../dag/planner.ts'
import type { NarProver } from '../dag/nar-prover.ts'
import { DagError } from '../dag/reader.ts'
import { WAY_MAX_ROUNDS_COUNT } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import { COST, SourceRestingError } from '../source.ts'
import type { BlockSource, ByteRange, CallOptions, ReadOptions, SourceId } from '../source.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { abortable } from '../upstream/abortable.ts'
import { BlockUnavailableError, NarHashMismatchError, NoSourceError, RootMisfitError } from './errors.ts'
import { follow } from './follow.ts'
import type { Take } from './follow.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { createProgress } from './progress.ts'
import { createReaders } from './readers.ts'
import { createRoster } from './roster.ts'
import { paceOf, startRunner } from './runner.ts'
import type { Coming, RelayedWay } from './relayed-way.ts'
import type { Runner, RunnerDeps } from './runner.ts'
import { ALL_BLOCKS } from './scores.ts'
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

export interface TransferDeps extends RunnerDeps {
  readonly blockSources: readonly BlockSource[]
  /** On this machine, asked before all others. They never stand for a peer. */
  readonly here: readonly BlockSource[]
  /** A new spool file; again after a round whose bytes proved wrong. */
  createFile(): Promise<SpoolFile>
  /** Each way once, cheapest first. Asked for anew when all broke off and there is reason to try them again. */
  ways(options: CallOptions): AsyncGenerator<Way, void, undefined>
  /** The way by a relay, for what comes slowly from an upstream; absent where none may hear of it. */
  readonly relayed?: RelayedWay | undefined
  /** Hashes the bytes from the first on; again after a round whose bytes proved wrong. */
  createProver(): NarProver
  /** All bytes right, before `done`. @param plan undefined when the leaves' digests are not known */
  finished(plan: NarPlan | undefined): void
  /**
   * Whether different roots were told, or wrong bytes went out lately. Then nothing goes out before the NarHash is proved:
   * Nix would resume a response that was cut, and put the right end behind a wrong beginning.
   */
  disputed(): boolean
  /** Bytes of several ways made a wrong NAR lately: they are not mixed again, so that each is proved by itself. */
  readonly apart: boolean
  /**
   * Nobody but a stranger vouches for its bytes: for a while they are kept back until they are proved.
   *
   * @param way undefined for a kept part: whose bytes those are nobody knows any more, nor whether they have rotted
   */
  isUnproven(way: Way | undefined): boolean
  /** Bytes by source, when they are proved or kept. */
  count(bySource: ReadonlyMap<SourceId, number>, isWhole: boolean): void
  /** Proved not to be that of this NAR, though every block was right: whoever told this root is wrong. */
  badRoot(way: Way): void
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
  const bySource = new Map<SourceId, number>()
  let file: SpoolFile | undefined
  let prover = deps.createProver()
  /** Whose bytes are in the file, in order. Owner: `run`; `restart` empties it. */
  let used: Way[] = []
  /** The file began with a kept part, which nobody watched meanwhile. */
  let resumed = false
  let lastFrom: SourceId | undefined
  /** Bytes of several ways made a wrong NAR: from now on no two of them are mixed, so that the next one is proved. */
  let { apart } = deps
  /** Ways proved wrong. */
  const wrong = new Set<string>()
  /** Roots that do not fit what came: wrong if that is right. */
  const misfits = new Map<Way, string>()
  /** Who gives bytes now. */
  let followed: Runner | undefined
  const over = new AbortController()
  const signal = AbortSignal.any([abort.signal, over.signal])
  let verified = false
  let failure: Error | undefined
  const roster = createRoster([...deps.here, ...deps.blockSources], deps)
  const readers = createReaders(
    {
      get file() {
        return file
      },
      get verified() {
        return verified
      },
      get disputed() {
        return deps.disputed()
      },
      get failure() {
        return failure
      },
    },
    progress,
    () => abort.abort(new NoSourceError('nobody waits for this NAR any more')),
  )

  /** Hashed when it returns, on disk when its promise resolves: the disk writes in another thread. */
  async function append(
    bytes: Uint8Array,
    from: SourceId,
    target: SpoolFile,
    digest?: Uint8Array,
  ): Promise<void> {
    const written = target.append(bytes)
    if (digest === undefined) prover.update(bytes)
    else prover.addLeaf(bytes, digest)
    await written
    bySource.set(from, (bySource.get(from) ?? 0) + bytes.length)
    progress.notify()
  }

  async function run(): Promise<void> {
    const reasons: string[] = []
    await rehash(await fileInHand())
    for (let rounds = 0; rounds < WAY_MAX_ROUNDS_COUNT; rounds++) {
      roster.again()
      const begun = await fileInHand()
      const before = begun.prefix
      if (await round(reasons)) return
      // Again only with more bytes in hand than before, or after a new start.
      if (file === begun && begun.prefix === before) break
    }
    throw new NoSourceError(
      `no source gave NAR ${narHash} of ${info.storePath}: ${reasons.join('; ') || 'none is known'}`,
    )
  }

  /** Each way once, as long as bytes are missing. @returns whether the NAR is whole and proved */
  async function round(reasons: string[]): Promise<boolean> {
    const queue = createWayQueue(deps.ways({ signal: abort.signal }), (way) => wrong.has(wayId(way)))
    let runner: Runner | undefined
    let failed: string | undefined
    const begin = (way: Way, target: SpoolFile): Runner => {
      const inHand = async (range: ByteRange, options: CallOptions): Promise<Uint8Array> =>
        Buffer.concat(await Array.fromAsync(target.read(range, options)))
      if (isRelayed(way)) deps.relayed?.begun()
      const request = { nar: info, from: target.prefix, roster, inHand }
      return startRunner(way, request, deps, { signal: abort.signal })
    }
    try {
      for (;;) {
        let target = await fileInHand()
        if (target.prefix === narSize) {
          const reason = await prove()
          if (reason === undefined) return true
          reasons.push(reason)
          target = await restart()
        }
        // What is begun already may begin too late by now, or be proved wrong.
        const way: Way | undefined = runner?.way ?? (await queue.take())
        if (way === undefined) return false
        if (!wrong.has(wayId(way)) && isMixed(way)) target = await restart()
        if (wrong.has(wayId(way)) || (runner !== undefined && runner.start > target.prefix)) {
          await runner?.stop(new Error('of no use any more'))
          runner = undefined
          queue.giveBack(way)
          continue
        }
        const from = target.prefix
        const into = target
        if (failed !== undefined)
          log.info({ ...about(way), at: from }, `${nameOf(way)} takes over from ${failed}`)
        const take: Take = (bytes, source, digest) => {
          if (deps.isUnproven(way)) readers.holdBack()
          lastFrom = paceId(way)
          return append(bytes, source, into, digest)
        }
        const current = runner ?? begin(way, target)
        followed = current
        const { failure, next } = await follow(
          current,
          {
            target,
            take,
            doubtful: isDoubtful(way, deps),
            pieceMs: () => (way.kind === 'blocks' ? slowestLeafMs() : 0),
            async takeNext() {
              const other = await queue.take()
              if (other === undefined || !isMixed(other, way)) return other
              queue.giveBack(other)
              return undefined
            },
            giveBack: (other) => queue.giveBack(other),
            putOff: (other) => queue.putOff(other),
            begin: (other) => begin(other, into),
            rivalFailed: (rival, error) => reasons.push(ended(rival.way, error)),
            better: isUpstream(way) && !apart ? deps.relayed?.find(coming, { signal }) : undefined,
          },
          deps,
          { signal: abort.signal },
        )
        if (way.kind === 'blocks' && failure === undefined && next !== undefined) tellSilence(current)
        // It was not at fault, and takes over again if the relay fails.
        if (next !== undefined && isRelayed(next.way) && failure === undefined) queue.giveBack(way)
        runner = next
        failed = failure === undefined && next === undefined ? undefined : wayId(way)
        if (failure !== undefined) reasons.push(ended(way, failure))
        if (target.prefix > from && !used.some((one) => wayId(one) === wayId(way))) used.push(way)
        // What came by a root that is now known to be wrong is thrown away while it can be.
        if (used.some((one) => wrong.has(wayId(one))) && readers.released === 0) await restart()
      }
    } finally {
      await runner?.stop(new Error('the round is over'))
    }
  }

  function coming(): Coming {
    const inHand = file?.prefix ?? 0
    return { inHand, left: narSize - inHand, bytesPerS: followed && paceOf(followed, deps) }
  }

  /** Another way gave something before any peer did. */
  function tellSilence({ arrived, begunAt }: Runner): void {
    const isAlive = deps.blockSources.some(({ id }) => scores.deliveredSince(id, begunAt))
    if (arrived === 0 && !isAlive) scores.faulted(ALL_BLOCKS, begunAt)
  }

  /** Whether bytes of this way would come to lie beside those of another one when none may be mixed. */
  function isMixed(way: Way, current?: Way): boolean {
    const others = current === undefined ? used : [...used, current]
    return apart && others.some((one) => wayId(one) !== wayId(way))
  }

  function slowestLeafMs(): number {
    return Math.max(
      0,
      ...deps.blockSources.map(({ id }) => (scores.trusted(id) ? scores.averageMs(id) : 0) ?? 0),
    )
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
    log[level]({ ...about(way), at: file?.prefix ?? 0 }, `a source of the NAR failed: ${reason}`)
    if (error instanceof DagError || error instanceof NarHashMismatchError) condemn(way, reason)
    if (error instanceof RootMisfitError) misfits.set(way, reason)
    return reason
  }

  /** What an earlier run left on disk counts only as far as it is hashed anew. */
  async function rehash(target: SpoolFile): Promise<void> {
    const end = target.prefix
    if (end === 0) return
    if (deps.isUnproven(undefined)) readers.holdBack()
    for await (const bytes of target.read({ start: 0, end }, { signal: abort.signal })) prover.update(bytes)
    resumed = true
    lastFrom = 'spool'
    bySource.set('spool', end)
  }

  /** Commits the NAR if its hash is right. @returns why it is not */
  async function prove(): Promise<string | undefined> {
    const proof = prover.finish()
    if (proof.narHash === narHash) {
      for (const [way, reason] of misfits) condemn(way, reason)
      await finish(proof.plan)
      return undefined
    }
    const names = [...(resumed ? ['a kept part'] : []), ...used.map(wayId)].join(', ')
    const reason = `bytes from ${names} hash to ${proof.narHash}, signed is ${narHash}`
    log.error({ path: info.storePath, ways: names }, `NAR thrown away: ${reason}`)
    blame(proof.narHash)
    return reason
  }

  /**
   * One way alone is proved wrong. Of several nobody knows which one it was: the user chose the upstreams, so the
   * others are avoided, and a root told by a liar cannot turn us against an upstream. A kept part may have rotted.
   */
  function blame(came: NarHash): void {
    const [way] = used
    if (resumed) return
    if (way !== undefined && used.length === 1) {
      condemn(way, `what it gave as NAR ${narHash} hashes to ${came}`)
      return
    }
    apart = true
    for (const one of used) {
      if (one.kind === 'stream' && one.source.cost === COST.upstream) scores.faulted(one.source.id)
      else scores.suspected(wayId(one))
    }
  }

  function condemn(way: Way, reason: string): void {
    wrong.add(wayId(way))
    scores.lied(wayId(way), reason)
    if (way.kind === 'blocks') deps.badRoot(way)
  }

  async function fileInHand(): Promise<SpoolFile> {
    file ??= await deps.createFile()
    return file
  }

  /** Throws the bytes away and begins anew; impossible once a reader has some of them. */
  async function restart(): Promise<SpoolFile> {
    if (readers.released > 0) {
      throw new NarHashMismatchError(
        `NAR ${narHash} proved wrong after ${readers.released} bytes of it had gone out`,
      )
    }
    const old = file
    // Readers look at this before they hand anything out; nothing may be awaited since `released` was looked at.
    file = undefined
    prover = deps.createProver()
    used = []
    misfits.clear()
    resumed = false
    lastFrom = undefined
    readers.beginAnew()
    bySource.clear()
    await old?.abandon(new NarHashMismatchError('wrong bytes'))
    return fileInHand()
  }

  async function finish(plan: NarPlan | undefined): Promise<void> {
    verified = true
    deps.count(bySource, true)
    progress.notify()
    await file?.commit()
    deps.finished(plan)
    log.info(
      { path: info.storePath, bytes: narSize, sources: Object.fromEntries(bySource) },
      `NAR verified: ${[...bySource].map(([id, bytes]) => `${bytes} bytes from ${id}`).join(', ')}`,
    )
  }

  const done = run()
    .catch(async (error: unknown) => {
      failure = error instanceof Error ? error : new Error(String(error))
      progress.notify()
      const isKept = !(error instanceof NarHashMismatchError)
      if (isKept && !verified) deps.count(bySource, false)
      await file?.abandon(failure, isKept)
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
      return failure !== undefined || abort.signal.aborted
    },
    done,
    firstByte: (range, options) => readers.firstByte(range, options),
    whole: ({ signal }) => readers.waiting(() => abortable(done, signal)),
    read: (range, options) => readers.read(range, options),
    follow: (range, options) => readers.follow(range, options),
  }
}
