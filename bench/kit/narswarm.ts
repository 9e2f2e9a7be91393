/** A narswarm process as a user runs it: the built program, its configuration file, `serve`. */
import { resolve } from 'node:path'
import { startChild } from '../../src/cli/demo/child-node.ts'
import type { ChildNode } from '../../src/cli/demo/child-node.ts'
import { endWithUs } from './end-with-us.ts'

/** As it is installed: types stripped at start cost memory that no user pays. */
const MAIN = resolve('dist/main.js')
const DEADLINE_MS = 3_600_000

/** NARSWARM_BENCH_NODE: options for its Node, such as `--cpu-prof --cpu-prof-dir=DIR`. */
const NODE_OPTIONS = (process.env['NARSWARM_BENCH_NODE'] ?? '').split(' ').filter((option) => option !== '')

export interface Narswarm extends ChildNode {
  /** Of its cache. */
  readonly url: string
}

/** Neither a port nor an upstream of this machine's is used unless `settings` name it. */
export async function startNarswarm(dir: string, settings: Record<string, unknown>): Promise<Narswarm> {
  const node = await startChild(
    dir,
    { upstreams: [], cache: { listen: '127.0.0.1:0' }, log: { level: 'warn' }, ...settings },
    [process.execPath, ...NODE_OPTIONS, MAIN],
    { signal: AbortSignal.timeout(DEADLINE_MS) },
  )
  const ended = endWithUs(node.pid)
  return {
    ...node,
    url: (await node.status()).cache.url,
    async stop() {
      await node.stop()
      ended()
    },
  }
}
