import type { SetUp } from './set-up.ts'

/** What each case gets. */
export interface BenchContext {
  /** An empty folder of its own; gone afterwards. */
  readonly dir: string
  /** A publishing narswarm with one NAR of so many bytes: random ones unless said otherwise. */
  readonly setUp: (label: string, bytes: number, contents?: 'random' | 'programs') => Promise<SetUp>
}
