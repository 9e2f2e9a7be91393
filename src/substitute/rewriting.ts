/**
 * NARs made of older paths that are here: a rebuild often differs from what it replaces in nothing but the store paths
 * inside its files. A guess, until NarHash or leaves prove it; nobody is asked for a byte, and nobody need be trusted.
 */
import { LRUCache } from 'lru-cache'
import {
  REWRITE_FAILED_MAX_AGE_MS,
  REWRITE_FAILED_MAX_COUNT,
  REWRITE_FIRST_BYTE_MS,
  REWRITE_LEAVES_COUNT,
  REWRITE_PAIRS_MAX_COUNT,
  REWRITE_PROOF_DEADLINE_MS,
  REWRITE_PROOFS_COUNT,
  REWRITE_PROVED_MAX_AGE_MS,
  REWRITE_PROVED_MAX_COUNT,
  REWRITE_QUIET_MS,
  REWRITE_STREAMS_COUNT,
  STORE_READ_BYTES,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import type { NarHash } from '../nix/hash.ts'
import { createRewriter } from '../nix/rewriter.ts'
import type { Rewrite } from '../nix/rewriter.ts'
import type { StorePath } from '../nix/store-path.ts'
import { COST, SourceFaultError } from '../source.ts'
import type { BlockSource, CallOptions, StreamSource } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import { StorePathChangedError } from '../store/errors.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { NameIndex } from '../store/name-index.ts'
import { findRelatives } from '../store/relatives.ts'
import type { Relative } from '../store/relatives.ts'
import { streamRewritten } from '../store/rewritten-nar.ts'
import type { OldNar } from '../store/rewritten-nar.ts'
import { abortable } from '../upstream/abortable.ts'
import { createSlots } from '../upstream/slots.ts'
import { watchQuiet } from './quiet-watch.ts'
import type { QuietWatch } from './quiet-watch.ts'
import { hashRewritten } from './rewritten-hash.ts'
import { createRewrittenLeaves, REWRITTEN } from './rewritten-leaves.ts'

export interface Rewriting {
  /** Undefined when nothing here is like it. Costs some 50 µs. */
  guess(info: SignedFields): Guess | undefined
  /** Those that `guess` tries, in its order, for a person who asks why. Nothing of them is read. */
  relatives(info: SignedFields): TriedRelative[]
}

export interface TriedRelative extends Relative {
  /** Tried in vain a while ago, so that `guess` leaves it alone. */
  readonly hasFailed: boolean
}

/** Of one NAR. */
export interface Guess {
  /**
   * Makes it of each older path that may give the whole, and hashes it.
   *
   * @param options.onLate called once, when nothing has moved for REWRITE_QUIET_MS: nobody need wait for it any longer
   * @returns a stream of the bytes that proved right, which breaks off at the first byte whose file is not as it was then;
   * undefined when none did, or too late
   * @throws the signal's reason
   */
  prove(options: CallOptions & { onLate?: () => void }): Promise<StreamSource | undefined>
  /** Single leaves by their offset, hashed before they are given. */
  readonly leaves: BlockSource
}

interface Proof {
  readonly storePath: StorePath
  readonly rewrites: readonly Rewrite[]
  /** Of the files behind each chunk (`Stamp`). */
  readonly marks: readonly string[]
}

type WatchedOptions = CallOptions & { readonly watch: QuietWatch }

export function createRewriting(deps: {
  store: Pick<LocalStore, 'pathInfo' | 'readNarInto'>
  names: Pick<NameIndex, 'sameName'>
  clock: () => number
  log: Log
}): Rewriting {
  const { store, names, clock, log } = deps
  /** Older path by the one that it became, in whichever NAR that proved right. */
  const pairs = new LRUCache<StorePath, StorePath>({ max: REWRITE_PAIRS_MAX_COUNT })
  const failed = createFading<string, true>({
    max: REWRITE_FAILED_MAX_COUNT,
    maxAgeMs: REWRITE_FAILED_MAX_AGE_MS,
    clock,
  })
  const proofs = createFading<NarHash, Proof>({
    max: REWRITE_PROVED_MAX_COUNT,
    maxAgeMs: REWRITE_PROVED_MAX_AGE_MS,
    clock,
  })
  const proving = createSlots(REWRITE_PROOFS_COUNT)
  const streaming = createSlots(REWRITE_STREAMS_COUNT)
  const leaves = createSlots(REWRITE_LEAVES_COUNT)
  /** Of those that wait to be proved: as long as others move their turn will come. */
  const queued = new Set<QuietWatch>()
  const attemptOf = (info: SignedFields, storePath: StorePath): string => `${info.narHash} ${storePath}`

  function relativesOf(info: SignedFields): Relative[] {
    try {
      const isKnown = ({ from, to }: Rewrite): boolean => pairs.get(from) === to
      return findRelatives(info, { store, names, isKnown })
    } catch (error) {
      log.warn({ path: info.storePath }, `no older paths looked for: ${messageOf(error)}`)
      return []
    }
  }

  /** @returns undefined when it is not the wanted NAR */
  async function hashOnce(
    info: SignedFields,
    { storePath, rewrites }: Omit<Proof, 'marks'>,
    options: WatchedOptions,
  ): Promise<Proof | undefined> {
    const { narSize, narHash } = info
    const readNarInto: LocalStore['readNarInto'] = async (...chunk) => {
      const stamp = await store.readNarInto(...chunk)
      for (const watch of [options.watch, ...queued]) watch.moved()
      return stamp
    }
    const hashed = await hashRewritten({ storePath, narSize, rewrites }, 'given', { readNarInto }, options)
    return hashed.narHash === narHash ? { storePath, rewrites, marks: hashed.marks } : undefined
  }

  async function proveOf(
    info: SignedFields,
    { storePath, pairings }: Relative,
    options: WatchedOptions,
  ): Promise<Proof | undefined> {
    try {
      for (const rewrites of pairings) {
        const proof = await hashOnce(info, { storePath, rewrites }, options)
        if (proof !== undefined) return proof
      }
    } catch (error) {
      options.signal.throwIfAborted()
      log.debug(
        { path: info.storePath, old: storePath },
        `an older path is not as it was: ${messageOf(error)}`,
      )
    }
    failed.set(attemptOf(info, storePath), true)
    return undefined
  }

  async function proveAny(
    info: SignedFields,
    relatives: readonly Relative[],
    options: WatchedOptions,
  ): Promise<Proof | undefined> {
    for (const relative of relatives) {
      const proof = await proveOf(info, relative, options)
      if (proof === undefined) continue
      proofs.set(info.narHash, proof)
      for (const { from, to } of proof.rewrites) pairs.set(from, to)
      log.info(
        { path: info.storePath, old: proof.storePath, rewrites: proof.rewrites.length },
        `made of ${proof.storePath}, which is here`,
      )
      return proof
    }
    return undefined
  }

  function streamOf(info: SignedFields, { storePath, rewrites, marks }: Proof): StreamSource {
    const { narHash, narSize } = info
    return {
      id: REWRITTEN,
      cost: COST.local,
      firstByteMs: REWRITE_FIRST_BYTE_MS,
      async *open(_, from, options) {
        const old: OldNar = {
          narSize,
          async read(range, target) {
            // One that hangs hears no signal, and whoever takes over does not wait for it.
            const reading = store.readNarInto(storePath, range, target, options)
            const { mark } = await abortable(reading, options.signal)
            if (mark === marks[range.start / STORE_READ_BYTES]) return
            throw new StorePathChangedError(`${storePath} has changed since it was hashed`)
          },
        }
        const range = { start: from, end: narSize }
        await streaming.take(options)
        try {
          yield* streamRewritten(old, createRewriter(rewrites), range, options)
        } catch (error) {
          options.signal.throwIfAborted()
          proofs.delete(narHash)
          failed.set(attemptOf(info, storePath), true)
          throw new SourceFaultError(REWRITTEN, messageOf(error), { cause: error })
        } finally {
          streaming.free()
        }
      },
    }
  }

  return {
    relatives: (info) =>
      relativesOf(info).map((relative) => ({
        ...relative,
        hasFailed: failed.has(attemptOf(info, relative.storePath)),
      })),

    guess(info) {
      const relatives = relativesOf(info)
      const [nearest] = relatives
      if (nearest === undefined) return undefined
      return {
        leaves: createRewrittenLeaves({ store, slots: leaves }, info, nearest),
        async prove(options) {
          const known = proofs.get(info.narHash)
          if (known !== undefined) return streamOf(info, known)
          const untried = relatives.filter(
            ({ storePath, isComplete }) => isComplete && !failed.has(attemptOf(info, storePath)),
          )
          if (untried.length === 0) return undefined
          const deadline = AbortSignal.timeout(REWRITE_PROOF_DEADLINE_MS)
          const signal = AbortSignal.any([options.signal, deadline])
          const watch = watchQuiet(REWRITE_QUIET_MS, options.onLate ?? (() => {}))
          try {
            queued.add(watch)
            await proving.take({ signal }).finally(() => queued.delete(watch))
            // A read that hangs hears no signal, and keeps a thread busy: so nobody else gets its turn.
            const proof = proveAny(info, untried, { signal, watch }).finally(() => proving.free())
            const proved = await abortable(proof, signal)
            return proved && streamOf(info, proved)
          } catch (error) {
            options.signal.throwIfAborted()
            // Too slow, and would be again.
            for (const { storePath } of untried) failed.set(attemptOf(info, storePath), true)
            log.debug({ path: info.storePath }, `not made of an older path: ${messageOf(error)}`)
            return undefined
          } finally {
            watch.stop()
          }
        },
      }
    },
  }
}
