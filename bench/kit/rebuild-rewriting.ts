/** The rewriting source over one older path that stands for a whole store. */
import { parseNarHash } from '../../src/nix/hash.ts'
import type { Rewrite } from '../../src/nix/rewriter.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { createRewriting } from '../../src/substitute/rewriting.ts'
import type { Rewriting } from '../../src/substitute/rewriting.ts'

const quiet = (): void => {}

/** @param old the path that the first of `rewrites` is from */
export function rewritingOfRebuild(
  rewrites: readonly [Rewrite, ...Rewrite[]],
  old: { readonly narSize: number; readonly read: LocalStore['readNarInto'] },
): Rewriting {
  const [{ from: storePath }] = rewrites
  return createRewriting({
    store: {
      pathInfo: () => ({
        storePath,
        narHash: parseNarHash(`sha256:${'0'.repeat(52)}`),
        narSize: old.narSize,
        references: rewrites.map(({ from }) => from),
        signatures: [],
        ultimate: false,
        registeredAt: 0,
      }),
      readNarInto: old.read,
    },
    names: { sameName: () => [storePath] },
    clock: () => performance.now(),
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  })
}
