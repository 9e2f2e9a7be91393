/** The state directory of a narswarm that has ended, held against the truth: what it says is whole must be. */
import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { LEAF_BYTES } from '../../../src/dag/profile.ts'
import { narHashFromDigest } from '../../../src/nix/hash.ts'
import type { NarHash } from '../../../src/nix/hash.ts'
import { parseNarInfo } from '../../../src/nix/narinfo.ts'
import { narPath, partPath } from '../../../src/spool/nar-file.ts'
import { STORE_DIR } from './world.ts'
import type { TrueNar, World } from './world.ts'

export interface StateReport {
  /** What must not be. */
  readonly faults: string[]
  /** NARs that are whole, by their row. */
  readonly whole: ReadonlySet<NarHash>
  /** Of these, those whose bytes are right. */
  readonly sound: ReadonlySet<NarHash>
  readonly rows: {
    readonly whole: number
    readonly parts: number
    readonly leaves: number
    readonly narInfos: number
  }
}

/** A temporary file of a feed has a fixed name and is written over; any other that a crash left would stay for ever. */
const KNOWN_FILES =
  /^(?:(?:state|feeds|lock)\.sqlite(?:-wal|-shm|-journal)?|lock\.pid|admin\.sock|(?:spool|feeds|keys|libp2p)\/.*)$/

/** NARs that have a row as whole ones. */
export function wholeNars(stateDir: string): Set<NarHash> {
  const db = new DatabaseSync(join(stateDir, 'state.sqlite'), { readOnly: true, timeout: 5_000 })
  try {
    return hashesOf(db, 'SELECT hash FROM spool_nar')
  } finally {
    db.close()
  }
}

/**
 * @param world what is true
 * @param since when its last life began (wall clock): a part without a row that is older was left over by the start
 * @param rotted NARs whose files were damaged by the driver: their bytes prove nothing
 */
export async function checkState(
  stateDir: string,
  world: World,
  rotted: ReadonlySet<NarHash>,
  since: number,
): Promise<StateReport> {
  const faults: string[] = []
  for (const name of ['state.sqlite', 'feeds.sqlite']) {
    const db = new DatabaseSync(join(stateDir, name), { readOnly: true, timeout: 5_000 })
    try {
      const [row] = db.prepare('PRAGMA integrity_check').all()
      const said = String(row?.['integrity_check'])
      if (said !== 'ok') faults.push(`${name}: ${said}`)
    } finally {
      db.close()
    }
  }
  const db = new DatabaseSync(join(stateDir, 'state.sqlite'), { readOnly: true, timeout: 5_000 })
  try {
    const whole = hashesOf(db, 'SELECT hash FROM spool_nar')
    const parts = hashesOf(db, 'SELECT hash FROM spool_part')
    const sound = new Set<NarHash>()
    const spoolDir = join(stateDir, 'spool')
    const allowed = new Set([...whole].map((one) => narPath(spoolDir, one)))
    for (const one of parts) allowed.add(partPath(spoolDir, one))
    for (const file of await filesBelow(spoolDir)) {
      if (!allowed.has(file) && (await stat(file)).mtimeMs < since) faults.push(`${file} has no row`)
    }
    for (const narHash of whole) {
      const bytes = await readFile(narPath(spoolDir, narHash)).catch(() => undefined)
      const found = bytes && narHashFromDigest(createHash('sha256').update(bytes).digest())
      if (found === narHash) sound.add(narHash)
      else if (!rotted.has(narHash))
        faults.push(`the file of ${narHash} is not that NAR: ${bytes?.length ?? 'no'} bytes`)
    }
    const leaves = checkIndex(db, world.nars, faults)
    const narInfos = checkNarInfos(db, world, faults)
    for (const file of await filesBelow(stateDir)) {
      if (!KNOWN_FILES.test(relative(stateDir, file))) faults.push(`${file} belongs to nothing`)
    }
    return { faults, whole, sound, rows: { whole: whole.size, parts: parts.size, leaves, narInfos } }
  } finally {
    db.close()
  }
}

/** Each indexed leaf is where its row says, in the true bytes. @returns how many there are */
function checkIndex(db: DatabaseSync, nars: ReadonlyMap<NarHash, TrueNar>, faults: string[]): number {
  for (const row of db.prepare('SELECT hash, size, root FROM dag_nar').all()) {
    const narHash = narHashFromDigest(row['hash'] as Uint8Array)
    const nar = nars.get(narHash)
    const root = Buffer.from(row['root'] as Uint8Array)
    if (nar === undefined) faults.push(`the index knows ${narHash}, which nobody has`)
    else if (nar.bytes.length !== row['size'] || !root.equals(nar.plan.root.multihash.digest)) {
      faults.push(`the index has another size or root of ${narHash}`)
    }
  }
  const leaves = db.prepare('SELECT hash, idx, digest FROM dag_leaf JOIN dag_nar ON dag_nar.id = nar').all()
  for (const row of leaves) {
    const nar = nars.get(narHashFromDigest(row['hash'] as Uint8Array))
    const at = Number(row['idx']) * LEAF_BYTES
    const digest = createHash('sha256')
      .update(nar?.bytes.subarray(at, at + LEAF_BYTES) ?? '')
      .digest()
    if (!digest.equals(row['digest'] as Uint8Array)) {
      faults.push(`the index has another leaf ${String(row['idx'])} of ${nar?.narHash}`)
    }
  }
  return leaves.length
}

function checkNarInfos(db: DatabaseSync, world: World, faults: string[]): number {
  const rows = db.prepare('SELECT text FROM narinfo').all()
  for (const row of rows) {
    const info = parseNarInfo(String(row['text']), STORE_DIR)
    const path = [...world.byHashPart.values()].find(({ storePath }) => storePath === info.storePath)
    if (path?.nar.narHash !== info.narHash) faults.push(`a narinfo row of ${info.storePath} is not true`)
  }
  return rows.length
}

function hashesOf(db: DatabaseSync, sql: string): Set<NarHash> {
  return new Set(
    db
      .prepare(sql)
      .all()
      .map((row) => narHashFromDigest(row['hash'] as Uint8Array)),
  )
}

async function filesBelow(dir: string): Promise<string[]> {
  const found = await readdir(dir, { recursive: true, withFileTypes: true })
  return found.filter((one) => !one.isDirectory()).map((one) => join(one.parentPath, one.name))
}
