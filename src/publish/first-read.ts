import type { NarPlan } from '../dag/planner.ts'
import { createPlanner } from '../dag/planner.ts'
import { sha256 } from '../dag/cid.ts'
import { LEAF_BYTES, leafCount, leafSize } from '../dag/profile.ts'
import type { NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import { StorePathChangedError } from '../store/errors.ts'
import type { LocalStore } from '../store/local-store.ts'

export interface StoreNar {
  readonly storePath: StorePath
  readonly narHash: NarHash
  /** Bytes, as signed. */
  readonly narSize: number
}

/**
 * A NAR of the store that nobody has hashed yet: its leaves are read in order as they are asked for, each once for all
 * who wait for it, and hashed for NarHash and DAG. It holds no file open and no buffer, so whoever asks may leave at any time.
 */
export interface FirstRead {
  /** All leaves were read, and make the NarHash. */
  readonly isProved: boolean
  /**
   * The next leaf, or an earlier one, which is read again and must be what it was. The last one is given once all are proved.
   *
   * @throws StorePathNotValidError, StorePathChangedError, NarTreeError: for good
   */
  leaf(index: number, options: CallOptions): Promise<Uint8Array>
  /** How many leaves were read; how many there are. */
  readonly done: number
  readonly leaves: number
}

/**
 * @param deps.proved is told once
 * @param deps.signal ends it, whoever reads
 */
export function createFirstRead(
  nar: StoreNar,
  deps: { store: Pick<LocalStore, 'readNarInto'>; proved(plan: NarPlan): void; signal: AbortSignal },
): FirstRead {
  const { storePath, narHash, narSize } = nar
  const leaves = leafCount(narSize)
  const planner = createPlanner()
  const digests: Uint8Array[] = []
  let next: Promise<Uint8Array> | undefined
  let failure: Error | undefined
  let isProved = false

  const read = async (index: number): Promise<Uint8Array> => {
    const start = index * LEAF_BYTES
    const bytes = Buffer.allocUnsafeSlow(leafSize(narSize, index))
    // By a signal of our own: others wait for the same leaf.
    await deps.store.readNarInto(storePath, { start, end: start + bytes.length }, bytes, deps)
    return bytes
  }

  const prove = (): void => {
    const plan = planner.finish()
    if (plan.narHash !== narHash) {
      throw new StorePathChangedError(`${storePath} hashes to ${plan.narHash}, Nix registered ${narHash}`)
    }
    isProved = true
    deps.proved(plan)
  }

  const advance = async (): Promise<Uint8Array> => {
    try {
      const bytes = await read(digests.length)
      const digest = sha256(bytes)
      planner.addLeaf(bytes, digest)
      // In one tick: who comes now waits for the leaf after this one.
      digests.push(digest)
      next = undefined
      if (digests.length === leaves) prove()
      return bytes
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error))
      throw error
    }
  }

  const again = async (index: number, digest: Uint8Array): Promise<Uint8Array> => {
    const bytes = await read(index)
    if (Buffer.compare(sha256(bytes), digest) === 0) return bytes
    throw new StorePathChangedError(`${storePath}: leaf ${index} is not what it was when it was hashed`)
  }

  return {
    leaves,
    get done() {
      return digests.length
    },
    get isProved() {
      return isProved
    },
    async leaf(index, { signal }) {
      for (;;) {
        signal.throwIfAborted()
        if (failure !== undefined) throw failure
        const digest = digests[index]
        if (digest !== undefined) return again(index, digest)
        const isNext = index === digests.length
        const bytes = await (next ??= advance())
        if (isNext) return bytes
      }
    },
  }
}
