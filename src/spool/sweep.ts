import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../log.ts'
import { isNarHash, type NarHash } from '../nix/hash.ts'
import { narFolder } from './nar-file.ts'
import type { SpoolRows } from './rows.ts'

/**
 * Brings files and rows together after a crash: a file without a row goes (nobody proved it), a row without a file
 * too. Sizes are looked at when a file is opened. Names that are not the spool's are left alone.
 */
export async function sweep(dir: string, rows: SpoolRows, log: Log): Promise<void> {
  const nars = rows.all('nar')
  const parts = rows.all('part')
  const files: string[] = []
  for (const folder of await readdir(dir, { withFileTypes: true })) {
    if (!folder.isDirectory() || folder.name.length !== 2) continue
    for (const name of await readdir(join(dir, folder.name))) {
      const narHash = narHashOf(name)
      if (narHash === undefined || narFolder(dir, narHash) !== join(dir, folder.name)) continue
      const known = name.endsWith('.part') ? parts.delete(narHash) : nars.delete(narHash)
      if (!known) files.push(join(dir, folder.name, name))
    }
  }
  for (const file of files) await rm(file, { recursive: true, force: true })
  for (const narHash of nars) rows.deleteNar(narHash)
  for (const narHash of parts) rows.deletePart(narHash)

  const swept = { files: files.length, wholeLost: nars.size, partsLost: parts.size }
  if (files.length + nars.size + parts.size > 0)
    log.info(swept, 'spool: swept what an unclean end left behind')
}

function narHashOf(name: string): NarHash | undefined {
  const base = /^(.*?)\.nar(?:\.part)?$/.exec(name)?.[1]
  return base !== undefined && isNarHash(base) ? base : undefined
}
