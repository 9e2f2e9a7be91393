import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'

/** What one end-to-end test stands on: a folder, and whatever runs in it. All of it is gone after the test. */
export interface Stage {
  readonly dir: string
  /** Aborted when the test ends or has taken far too long. */
  readonly signal: AbortSignal
  /** Last in, first out. */
  onEnd(work: () => Promise<void>): void
  /** What is printed when the test fails, or one within it. */
  keepLog(name: string, text: () => string): void
  printLogs(): void
}

const TEST_DEADLINE_MS = 280_000

/** @param outer of the test that this one is within */
export async function openStage(
  t: TestContext,
  outer?: Stage,
  deadlineMs = TEST_DEADLINE_MS,
): Promise<Stage> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-e2e-'))
  const works: (() => Promise<void>)[] = []
  const logs: [name: string, text: () => string][] = []
  const printLogs = (): void => {
    for (const [name, text] of logs) process.stderr.write(`--- ${t.name}: ${name}\n${text()}\n`)
  }
  t.after(async () => {
    for (const work of works.toReversed()) await work()
    // Node has had it since 21.7; its types have not.
    const { passed } = t as TestContext & { readonly passed: boolean }
    if (!passed) {
      outer?.printLogs()
      printLogs()
    }
    // Nix takes the write bit from all that it puts into a store.
    await promisify(execFile)('chmod', ['-R', 'u+w', dir])
    await rm(dir, { recursive: true, force: true })
  })
  return {
    dir,
    signal: AbortSignal.any([t.signal, AbortSignal.timeout(deadlineMs)]),
    onEnd: (work) => works.push(work),
    keepLog: (name, text) => logs.push([name, text]),
    printLogs,
  }
}
