import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/**
 * A folder of its own, removed after the test. node:test runs its `after` hooks in the order in which they were
 * registered, so what a test opens in here is closed later than this hook begins and may still write: hence the
 * retries.
 */
export async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-test-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 }))
  return dir
}
