import { planNar, type NarPlan } from '../dag/planner.ts'
import type { Log } from '../log.ts'
import { messageOf } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { CallOptions } from '../source.ts'
import { SpoolCorruptError, SpoolMissError } from './errors.ts'
import type { LeafIndex } from './leaf-index.ts'
import type { Spool } from './spool.ts'

/** 'bytes': the file is not its NarHash's, and was removed. 'index': the leaf index was wrong, and was made anew. */
interface BadNar {
  readonly narHash: NarHash
  readonly what: 'bytes' | 'index'
  readonly reason: string
}

export interface SpoolCheck {
  readonly nars: number
  readonly bytes: number
  readonly bad: readonly BadNar[]
}

/** Hashes every whole NAR of the spool anew, and compares what the leaf index has of it. Bytes decide: what is wrong goes. */
export async function checkSpool(
  deps: { spool: Spool; index: LeafIndex; log: Log },
  options: CallOptions,
): Promise<SpoolCheck> {
  const { spool, log } = deps
  const bad: BadNar[] = []
  let nars = 0
  let bytes = 0
  for (const narHash of spool.whole()) {
    options.signal.throwIfAborted()
    const size = spool.bytesOf(narHash)
    const found = await checkNar(narHash, deps, options)
    if (found === 'gone') continue
    nars += 1
    bytes += size
    if (found === 'good') continue
    log.error({ narHash, what: found.what }, `spool: a NAR is not what it should be: ${found.reason}`)
    bad.push(found)
  }
  return { nars, bytes, bad }
}

async function checkNar(
  narHash: NarHash,
  { spool, index }: { spool: Spool; index: LeafIndex },
  options: CallOptions,
): Promise<'good' | 'gone' | BadNar> {
  const removed = async (reason: string): Promise<BadNar> => {
    index.drop(narHash)
    await spool.remove(narHash)
    return { narHash, what: 'bytes', reason }
  }
  let plan: NarPlan
  try {
    plan = await planNar(spool.read(narHash, { start: 0, end: spool.bytesOf(narHash) }, options))
  } catch (error) {
    if (error instanceof SpoolMissError) return 'gone'
    if (!(error instanceof SpoolCorruptError)) throw error
    return removed(messageOf(error))
  }
  if (plan.narHash !== narHash) return removed(`its bytes hash to ${plan.narHash}`)
  const indexed = index.nar(narHash)
  if (indexed === undefined || index.matches(plan)) return 'good'
  index.drop(narHash)
  index.put(plan, { shared: indexed.shared, inSpool: true })
  for (const path of indexed.storePaths) index.addPath(narHash, path)
  return { narHash, what: 'index', reason: 'the leaf index had other leaves of it' }
}
