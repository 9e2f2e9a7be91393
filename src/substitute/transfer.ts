/**
 * One NAR on its way into the spool: one writer, any number of readers who follow it. The only code that checks a
 * NarHash.
 *
 * What readers may have: all that is on disk but the last HELD_BACK_BYTES of what each asked for; those too once the
 * NarHash of the whole is proved. So a response that completes is right, and a wrong one breaks off (P1).
 */
import { messageOf } from '../log.ts'
import type { NarPlan } from '../dag/planner.ts'
import { createPlanner } from '../dag/planner.ts'
import type { Planner } from '../dag/planner.ts'
import { DagError } from '../dag/reader.ts'
import { HELD_BACK_BYTES, ORPHAN_GRACE_MS, WAY_MAX_ROUNDS_COUNT } from '../limits.ts'
import { COST } from '../source.ts'
import type { ByteRange, CallOptions, ReadOptions, SourceId } from '../source.ts'
import { SpoolWriteError } from '../spool/errors.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { abandonable } from './abandonable.ts'
import { NarHashMismatchError, NoSourceError } from './errors.ts'
import { followWay } from './follow-way.ts'
import type { FollowDeps, Take } from './follow-way.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { createProgress } from './progress.ts'
import { wayId } from './ways.ts'
import type { Way } from './ways.ts'

export interface Transfer {
  readonly narSize: number
  /** Bytes from 0 that a reader of the whole may have by now. */
  readonly verifiedTo: number
  /**
   * Bytes of the NAR as they come. Breaks off with an error, never ends early.
   *
   * @throws NoSourceError, NarHashMismatchError
   */
  read(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
  /** Resolves when the whole is verified and safe on disk. */
  readonly done: Promise<void>
}

export interface TransferDeps extends FollowDeps {
  /** A new spool file; again after a round whose bytes proved wrong. */
  createFile(): Promise<SpoolFile>
  /** Each way once, cheapest first. Asked for anew when all broke off and there is reason to try them again. */
  ways(options: CallOptions): AsyncGenerator<Way, void, undefined>
  /** All bytes right: into the index, before `done`. */
  finished(plan: NarPlan): void
  /**
   * Whether different roots were told. Then one is wrong, and nothing goes out before the NarHash is proved: Nix would
   * resume a response that was cut, and put the right end behind a wrong beginning.
   */
  disputed(): boolean
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
}

export function startTransfer(info: VerifiedNarInfo, deps: TransferDeps): RunningTransfer {
  const { narSize, narHash } = info
  const { log, scores } = deps
  const abort = new AbortController()
  const progress = createProgress()
  const bySource = new Map<SourceId, number>()
  let file: SpoolFile | undefined
  let planner: Planner = createPlanner()
  /** Whose bytes are in the file, in order. Owner: `run`; `restart` empties it. */
  let used: Way[] = []
  /** The file began with a kept part, which nobody watched meanwhile. */
  let resumed = false
  /** Bytes of several ways made a wrong NAR: from now on no two of them are mixed, so that the next one is proved. */
  let apart = false
  /** Ways proved wrong. */
  const wrong = new Set<string>()
  let verified = false
  let failure: Error | undefined
  /** Furthest byte that any reader got: once it is above 0 the bytes cannot be taken back. */
  let released = 0
  let readers = 0
  let orphaned: NodeJS.Timeout | undefined

  const prefix = (): number => file?.prefix ?? 0
  const releasable = (end: number): number =>
    verified ? end : deps.disputed() ? 0 : Math.max(0, Math.min(prefix(), end - HELD_BACK_BYTES))

  /** Hashed when it returns, on disk when its promise resolves: the disk writes in another thread. */
  async function append(
    bytes: Uint8Array,
    from: SourceId,
    target: SpoolFile,
    digest?: Uint8Array,
  ): Promise<void> {
    const written = target.append(bytes)
    if (digest === undefined) planner.update(bytes)
    else planner.addLeaf(bytes, digest)
    await written
    bySource.set(from, (bySource.get(from) ?? 0) + bytes.length)
    progress.notify()
  }

  async function run(): Promise<void> {
    const reasons: string[] = []
    await rehash(await fileInHand())
    for (let rounds = 0; rounds < WAY_MAX_ROUNDS_COUNT; rounds++) {
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
    const ways = deps.ways({ signal: abort.signal })
    let upcoming: Promise<IteratorResult<Way, void>> | undefined
    const isOther = async (): Promise<boolean> => {
      upcoming ??= ways.next()
      return (await upcoming).done !== true
    }
    for (;;) {
      let target = await fileInHand()
      if (target.prefix === narSize) {
        const reason = await prove()
        if (reason === undefined) return true
        reasons.push(reason)
        target = await restart()
      }
      const next = await (upcoming ?? ways.next())
      upcoming = undefined
      if (next.done === true) return false
      const way = next.value
      if (wrong.has(wayId(way))) continue
      if (apart && used.some((one) => wayId(one) !== wayId(way))) target = await restart()
      const from = target.prefix
      const into = target
      try {
        const take: Take = (bytes, from, digest) => append(bytes, from, into, digest)
        await followWay(way, { nar: info, target, take, isOther }, deps, { signal: abort.signal })
      } catch (error) {
        if (abort.signal.aborted || error instanceof SpoolWriteError) throw error
        const reason = messageOf(error)
        reasons.push(reason)
        log.warn(
          { path: info.storePath, way: wayId(way), at: target.prefix },
          `a source of the NAR failed, the next takes over: ${reason}`,
        )
        if (error instanceof DagError || error instanceof NarHashMismatchError) condemn(way)
      }
      const before = used.some((one) => wayId(one) === wayId(way))
      if (target.prefix > from && !before) used.push(way)
      // What came by a root that is now known to be wrong is thrown away while it can be.
      if (wrong.has(wayId(way)) && (before || target.prefix > from) && released === 0) await restart()
    }
  }

  /** What an earlier run left on disk counts only as far as it is hashed anew. */
  async function rehash(target: SpoolFile): Promise<void> {
    const end = target.prefix
    if (end === 0) return
    for await (const bytes of target.read({ start: 0, end }, { signal: abort.signal })) planner.update(bytes)
    resumed = true
    bySource.set('spool', end)
  }

  /** Commits the NAR if its hash is right. @returns why it is not */
  async function prove(): Promise<string | undefined> {
    const plan = planner.finish()
    if (plan.narHash === narHash) {
      await finish(plan)
      return undefined
    }
    const names = [...(resumed ? ['a kept part'] : []), ...used.map(wayId)].join(', ')
    const reason = `bytes from ${names} hash to ${plan.narHash}, signed is ${narHash}`
    log.error({ path: info.storePath, ways: names }, `NAR thrown away: ${reason}`)
    blame()
    return reason
  }

  /**
   * One way alone is proved wrong. Of several nobody knows which one it was: the user chose the upstreams, so the
   * others are avoided, and a root told by a liar cannot turn us against an upstream. A kept part may have rotted.
   */
  function blame(): void {
    const [way] = used
    if (resumed) return
    if (way !== undefined && used.length === 1) {
      condemn(way)
      return
    }
    apart = true
    for (const one of used) {
      if (one.kind === 'stream' && one.source.cost === COST.upstream) scores.faulted(one.source.id)
      else scores.lied(wayId(one))
    }
  }

  function condemn(way: Way): void {
    wrong.add(wayId(way))
    scores.lied(wayId(way))
    if (way.kind === 'blocks') deps.badRoot(way)
  }

  async function fileInHand(): Promise<SpoolFile> {
    file ??= await deps.createFile()
    return file
  }

  /** Throws the bytes away and begins anew; impossible once a reader has some of them. */
  async function restart(): Promise<SpoolFile> {
    if (released > 0) {
      throw new NarHashMismatchError(`NAR ${narHash} proved wrong after ${released} bytes of it had gone out`)
    }
    const old = file
    // Readers look at this before they hand anything out; nothing may be awaited since `released` was looked at.
    file = undefined
    planner = createPlanner()
    used = []
    resumed = false
    bySource.clear()
    await old?.abandon(new NarHashMismatchError('wrong bytes'))
    return fileInHand()
  }

  async function finish(plan: NarPlan): Promise<void> {
    verified = true
    progress.notify()
    await file?.commit()
    deps.finished(plan)
    log.info(
      { path: info.storePath, bytes: narSize, sources: Object.fromEntries(bySource) },
      `NAR verified: ${[...bySource].map(([id, bytes]) => `${bytes} bytes from ${id}`).join(', ')}`,
    )
  }

  function enter(): void {
    readers += 1
    clearTimeout(orphaned)
  }

  function leave(): void {
    readers -= 1
    if (readers > 0 || verified || failure !== undefined) return
    orphaned = setTimeout(
      () => abort.abort(new NoSourceError('nobody waits for this NAR any more')),
      ORPHAN_GRACE_MS,
    )
  }

  const done = run()
    .catch(async (error: unknown) => {
      failure = error instanceof Error ? error : new Error(String(error))
      progress.notify()
      await file?.abandon(failure, !(error instanceof NarHashMismatchError))
      throw failure
    })
    .finally(() => clearTimeout(orphaned))
  // Whoever reads hears of the failure; with no reader left nobody needs to.
  done.catch(() => {})

  return {
    narSize,
    get verifiedTo() {
      return releasable(narSize)
    },
    get ending() {
      return failure !== undefined || abort.signal.aborted
    },
    done,

    async firstByte(range, { signal }) {
      enter()
      try {
        while (releasable(range.end) <= range.start && range.end > range.start) {
          if (failure !== undefined) throw failure
          await progress.wait(signal)
        }
      } finally {
        leave()
      }
    },

    async whole({ signal }) {
      enter()
      try {
        await abandonable(done, signal)
      } finally {
        leave()
      }
    },

    async *read(range, options) {
      enter()
      try {
        let at = range.start
        while (at < range.end) {
          if (failure !== undefined) throw failure
          const end = releasable(range.end)
          if (file === undefined || end <= at) {
            await progress.wait(options.signal)
            continue
          }
          const current = file
          try {
            for await (const bytes of current.read({ start: at, end }, options)) {
              // Thrown away between disk and here: wait for the new one.
              if (file !== current) break
              at += bytes.length
              released = Math.max(released, at)
              yield bytes
            }
          } catch (error) {
            if (file === current) throw error
          }
        }
      } finally {
        leave()
      }
    },
  }
}
