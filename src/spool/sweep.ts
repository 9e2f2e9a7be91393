import { lstatSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { SPOOL_TURN_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import { isNarHash, type NarHash } from '../nix/hash.ts'
import { narFolder } from './nar-file.ts'
import type { SpoolRows } from './rows.ts'

/**
 * Brings files and rows together after a crash, or after the database was lost. Nothing is hashed here.
 *
 * A whole NAR without a row gets one: it had its name only after its NarHash was proved and its bytes were on disk, and
 * what the leaf index does not know is hashed again before anyone gets a byte of it (substitute/transfers.ts, `adopt`). A part
 * without a row goes, for nobody knows which of its leaves were written; so does a row without its file, and a file whose
 * size is not its row's. Names that are not the spool's are left alone.
 */
export async function sweep(dir: string, rows: SpoolRows, log: Log): Promise<void> {
  const nars = rows.all('nar')
  const parts = rows.all('part')
  const swept = { files: 0, wholeLost: 0, partsLost: 0, adopted: 0 }
  let looked = 0

  const goes = async (path: string): Promise<void> => {
    try {
      await rm(path, { recursive: true, force: true })
      swept.files += 1
    } catch (error) {
      // A read-only disk is no reason not to serve what is on it.
      log.warn({ path, err: error }, 'spool: a file cannot be removed')
    }
  }
  const judge = async (path: string, narHash: NarHash, isPart: boolean): Promise<void> => {
    if (isPart) {
      if (!parts.delete(narHash)) await goes(path)
      return
    }
    const stat = lstatSync(path, { throwIfNoEntry: false })
    const row = nars.delete(narHash) ? rows.nar(narHash) : undefined
    if (stat?.isFile() === true && stat.size > 0 && row === undefined) {
      rows.commit(narHash, stat.size, Math.round(stat.mtimeMs))
      swept.adopted += 1
    } else if (stat?.isFile() !== true || row?.bytes !== stat.size) {
      if (row !== undefined) nars.add(narHash)
      await goes(path)
    }
  }

  for (const folder of await readdir(dir, { withFileTypes: true })) {
    if (!folder.isDirectory() || folder.name.length !== 2) continue
    for (const name of await readdir(join(dir, folder.name))) {
      const narHash = narHashOf(name)
      if (narHash === undefined || narFolder(dir, narHash) !== join(dir, folder.name)) continue
      await judge(join(dir, folder.name, name), narHash, name.endsWith('.part'))
      if (++looked % SPOOL_TURN_COUNT === 0) await nextTurn()
    }
  }
  for (const narHash of nars) rows.deleteNar(narHash)
  for (const narHash of parts) rows.deletePart(narHash)
  swept.wholeLost = nars.size
  swept.partsLost = parts.size
  if (Object.values(swept).some((many) => many > 0)) {
    log.info(swept, 'spool: brought files and rows together')
  }
}

function narHashOf(name: string): NarHash | undefined {
  const base = /^(.*?)\.nar(?:\.part)?$/.exec(name)?.[1]
  return base !== undefined && isNarHash(base) ? base : undefined
}
