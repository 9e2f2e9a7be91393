import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** What a test started, undone after it in reverse order: `t.after` alone would take a daemon's folder from under it. */
export function cleanupAfter(t: TestContext): AsyncDisposableStack {
  const cleanup = new AsyncDisposableStack()
  t.after(() => cleanup.disposeAsync())
  return cleanup
}

export async function workDir(cleanup: AsyncDisposableStack): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-interop-'))
  cleanup.defer(() => rm(dir, { recursive: true, force: true }))
  return dir
}
