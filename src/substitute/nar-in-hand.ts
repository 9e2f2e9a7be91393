/** What one transfer has of its NAR: a spool file, who gave how much of it, and what it hashes to. */
import type { NarPlan } from '../dag/planner.ts'
import type { NarProver } from '../dag/nar-prover.ts'
import type { Log } from '../log.ts'
import type { CallOptions, SourceId } from '../source.ts'
import type { SpoolFile } from '../spool/spool-file.ts'
import { NarHashMismatchError } from './errors.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Progress } from './progress.ts'
import type { Followable } from './readers.ts'

/** `verified` once it is whole and right, which is before it is safe on disk. */
export interface NarInHand extends Followable {
  /** The file, made when there is none. */
  open(): Promise<SpoolFile>
  /** What an earlier run left on disk counts only as far as it is hashed anew. */
  rehash(options: CallOptions): Promise<void>
  /**
   * The next bytes of the NAR: hashed when it returns, on disk when its promise resolves. The disk writes in another thread.
   */
  append(bytes: Uint8Array, from: SourceId, how?: AppendHow): Promise<void>
  /** What the whole hashes to; once for each file. */
  finish(): ReturnType<NarProver['finish']>
  /** There is no file any more when it returns; the old one is gone when its promise resolves. */
  throwAway(): Promise<void>
  /** It hashes to what was signed. Resolves when it is safe on disk. */
  commit(plan: NarPlan | undefined): Promise<void>
  /** No more comes. What is not known to be wrong is kept for a transfer that goes on here. */
  abandon(reason: Error): Promise<void>
}

export interface AppendHow {
  /** Of a whole leaf, when it has been checked against these bytes. */
  readonly digest?: Uint8Array | undefined
  /** As for `SpoolFile.append`. */
  readonly release?: (() => void) | undefined
}

export interface NarInHandDeps {
  /** A new spool file; again after a round whose bytes proved wrong. */
  createFile(): Promise<SpoolFile>
  /** Hashes the bytes from the first on; again after a round whose bytes proved wrong. */
  createProver(): NarProver
  /** All bytes right, before `done`. @param plan undefined when the leaves' digests are not known */
  finished(plan: NarPlan | undefined): void
  /** Bytes by source, when they are proved or kept. */
  count(bySource: ReadonlyMap<SourceId, number>, isWhole: boolean): void
  /**
   * Whether different roots were told, or wrong bytes went out lately. Then nothing goes out before the NarHash is proved:
   * Nix would resume a response that was cut, and put the right end behind a wrong beginning.
   */
  disputed(): boolean
  readonly log: Log
}

export function createNarInHand(
  { storePath, narSize }: Pick<VerifiedNarInfo, 'storePath' | 'narSize'>,
  deps: NarInHandDeps,
  progress: Progress,
): NarInHand {
  const bySource = new Map<SourceId, number>()
  let file: SpoolFile | undefined
  let prover = deps.createProver()
  let verified = false
  let failure: Error | undefined

  async function open(): Promise<SpoolFile> {
    file ??= await deps.createFile()
    return file
  }

  return {
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
    open,

    async rehash(options) {
      const kept = await open()
      const end = kept.prefix
      for await (const bytes of kept.read({ start: 0, end }, options)) prover.update(bytes)
      bySource.set('spool', end)
    },

    async append(bytes, from, { digest, release } = {}) {
      if (file === undefined) throw new Error('bytes of a NAR came before its file was opened')
      const written = file.append(bytes, release)
      if (digest === undefined) prover.update(bytes)
      else prover.addLeaf(bytes, digest)
      await written
      bySource.set(from, (bySource.get(from) ?? 0) + bytes.length)
      progress.notify()
    },

    finish: () => prover.finish(),

    async throwAway() {
      const old = file
      file = undefined
      prover = deps.createProver()
      bySource.clear()
      await old?.abandon(new NarHashMismatchError('wrong bytes'))
    },

    async commit(plan) {
      verified = true
      deps.count(bySource, true)
      progress.notify()
      await file?.commit()
      deps.finished(plan)
      deps.log.info(
        { path: storePath, bytes: narSize, sources: Object.fromEntries(bySource) },
        `NAR verified: ${[...bySource].map(([id, bytes]) => `${bytes} bytes from ${id}`).join(', ')}`,
      )
    },

    async abandon(reason) {
      failure = reason
      progress.notify()
      const isKept = !(reason instanceof NarHashMismatchError)
      if (isKept && !verified) deps.count(bySource, false)
      await file?.abandon(reason, isKept)
    },
  }
}
