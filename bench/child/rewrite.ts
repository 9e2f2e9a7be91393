/** Finds, rewrites and proves a NAR of an older path, as a transfer does before it gives anything away. */
import { layoutNar } from '../../src/nix/nar-layout.ts'
import { createRewriter } from '../../src/nix/rewriter.ts'
import { createNarProver } from '../../src/dag/nar-prover.ts'
import { readNarInto } from '../../src/store/nar-stream.ts'
import { streamRewritten } from '../../src/store/rewritten-nar.ts'
import { walkStorePath } from '../../src/store/walk.ts'
import type { SignedFields } from '../../src/nix/fingerprint.ts'
import { rebuildPairs } from '../kit/rebuild.ts'
import { rewritingOfRebuild } from '../kit/rebuild-rewriting.ts'

const { path, pairs } = JSON.parse(process.argv[2] ?? '{}') as { path: string; pairs: number }
const signal = AbortSignal.timeout(600_000)
const layout = { ...layoutNar(await walkStorePath(path, { signal })), frameMark: 0 }
const { narSize } = layout
const rewrites = rebuildPairs(pairs)
const [itself] = rewrites

// What the rebuild's narinfo would say; by the way all files are in the page cache then, and the code is warm.
const prover = createNarProver('given')
const old = {
  narSize,
  read: (range: { start: number; end: number }, target: Uint8Array) => readNarInto(layout, range, target),
}
for await (const bytes of streamRewritten(
  old,
  createRewriter(rewrites),
  { start: 0, end: narSize },
  { signal },
)) {
  prover.update(bytes)
}
const wanted: SignedFields = {
  storePath: itself.to,
  ...prover.finish(),
  narSize,
  references: rewrites.map(({ to }) => to),
}
const rewriting = rewritingOfRebuild(rewrites, {
  narSize,
  read: (_, range, target) => readNarInto(layout, range, target),
})
const begun = performance.now()
const source = await rewriting.guess(wanted)?.prove({ signal })
const ms = performance.now() - begun
if (source === undefined) throw new Error('the rewritten NAR did not prove right')
process.stdout.write(`${JSON.stringify({ ms, bytes: narSize })}\n`)
