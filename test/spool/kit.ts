import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { LEAF_BYTES } from '../../src/dag/profile.ts'
import { createPlanner, type NarPlan } from '../../src/dag/planner.ts'
import { openSpool, type Spool, type SpoolDeps } from '../../src/spool/spool.ts'
import { openDatabase } from '../../src/state/database.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

export const options = { signal: AbortSignal.timeout(600_000) }

/** Bytes that look like nothing, the same for the same seed. The spool does not care whether they are a NAR. */
export function noise(size: number, seed = 'noise'): Buffer {
  return createHash('shake256', { outputLength: size }).update(seed).digest()
}

export function planOf(bytes: Uint8Array): NarPlan {
  const planner = createPlanner()
  planner.update(bytes)
  return planner.finish()
}

export function leafOf(bytes: Uint8Array, index: number): Uint8Array {
  return bytes.subarray(index * LEAF_BYTES, (index + 1) * LEAF_BYTES)
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks))
}

export interface Bench {
  dir: string
  db: DatabaseSync
  log: ReturnType<typeof recordingLog>
  spool: Spool
  /** A second spool over the same files and rows, as after a restart. */
  reopen: () => Promise<Spool>
}

export async function spoolBench(t: TestContext, some: Partial<SpoolDeps> = {}): Promise<Bench> {
  const root = await tempDir(t)
  const dir = join(root, 'spool')
  const db = openDatabase(join(root, 'state.sqlite'))
  t.after(() => db.close())
  const log = recordingLog()
  const reopen = () => openSpool({ db, dir, log, ...some })
  return { dir, db, log, spool: await reopen(), reopen }
}

export async function store(spool: Spool, bytes: Uint8Array): Promise<NarPlan> {
  const plan = planOf(bytes)
  const file = await spool.create(plan)
  await file.append(bytes)
  await file.commit()
  return plan
}

export function pathIn(dir: string, narHash: string, part = false): string {
  return join(dir, narHash.slice(0, 2), `${narHash}.nar${part ? '.part' : ''}`)
}
