/** What driver and preload must agree on. */
import type { Random } from './random.ts'

/** `sync` is a removal in one tick; `run` a statement that changes rows, alone or within a transaction. */
export type FailpointKind =
  'create' | 'write' | 'fsync' | 'datasync' | 'rename' | 'rm' | 'mkdir' | 'sync' | 'commit' | 'run'

/** What goes wrong for as long as the last message says so. */
export interface Windows {
  /** No space left: files and tables. */
  readonly full?: boolean
  /** fsync fails. */
  readonly io?: boolean
  /** What the wall clock is wrong by. */
  readonly clockMs?: number
}

/** Begins the last line on stderr of a process that a failpoint ended. */
export const FAILPOINT_MARK = 'torture failpoint'

/** How many calls of a kind there may be before the one: most die early in a life, some late. */
const MOST_CALLS: Record<FailpointKind, number> = {
  create: 4,
  write: 20,
  fsync: 5,
  datasync: 2,
  rename: 4,
  rm: 6,
  mkdir: 3,
  sync: 1,
  commit: 12,
  run: 20,
}

/** @returns the value of TORTURE_FAILPOINT */
export function drawFailpoint(random: Random): string {
  const kind = random.weighted<FailpointKind>([
    [3, 'create'],
    [4, 'write'],
    [5, 'fsync'],
    [2, 'datasync'],
    [5, 'rename'],
    [2, 'rm'],
    [2, 'mkdir'],
    [6, 'commit'],
    [4, 'run'],
  ])
  const when = random.pick(['before', 'within', 'after'])
  return `${kind}:${when}:${random.int(1, MOST_CALLS[kind])}`
}
