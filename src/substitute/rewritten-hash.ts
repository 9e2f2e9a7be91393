import { createNarProver } from '../dag/nar-prover.ts'
import type { NarPlan } from '../dag/planner.ts'
import type { NarHash } from '../nix/hash.ts'
import { createRewriter } from '../nix/rewriter.ts'
import type { Rewrite } from '../nix/rewriter.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import { streamRewritten } from '../store/rewritten-nar.ts'
import type { OldNar } from '../store/rewritten-nar.ts'

interface RewrittenHash {
  readonly narHash: NarHash
  /** Undefined where its leaves were not hashed. */
  readonly plan: NarPlan | undefined
  /** Of the files behind each chunk (`Stamp`). */
  readonly marks: readonly string[]
}

/**
 * The NAR that an older path becomes, read once and hashed.
 *
 * @param leaves as for `createNarProver`
 * @throws what reading it throws; the signal's reason
 */
export async function hashRewritten(
  { storePath, narSize, rewrites }: { storePath: StorePath; narSize: number; rewrites: readonly Rewrite[] },
  leaves: 'hashed' | 'given',
  store: Pick<LocalStore, 'readNarInto'>,
  options: CallOptions,
): Promise<RewrittenHash> {
  const marks: string[] = []
  const old: OldNar = {
    narSize,
    async read(range, target) {
      marks.push((await store.readNarInto(storePath, range, target, options)).mark)
    },
  }
  const prover = createNarProver(leaves)
  const range = { start: 0, end: narSize }
  for await (const bytes of streamRewritten(old, createRewriter(rewrites), range, {
    ...options,
    reuse: true,
  })) {
    prover.update(bytes)
  }
  return { ...prover.finish(), marks }
}
