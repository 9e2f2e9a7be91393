import { mkdir, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Writes one whole file. A publisher takes it as a dependency, so that a test can stop it between any two files. */
export type WriteFile = (path: string, bytes: Uint8Array) => Promise<void>

/**
 * Either the whole of `bytes` is at `path` afterwards, power cut or not, or what was there before: temporary file in the
 * same folder, fsync, rename, fsync of the folder. One writer a path: the temporary name is fixed, so that what a crash
 * left behind is overwritten next time and needs no sweeping.
 */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const dir = dirname(path)
  const made = await mkdir(dir, { recursive: true })
  const temporary = `${path}.tmp`
  const file = await open(temporary, 'w', 0o644)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncDirectory(dir)
  if (made === undefined) return
  // New folders are names in their parents, which must reach the disk too.
  for (let child = dir; child.length >= made.length; child = dirname(child))
    await syncDirectory(dirname(child))
}

export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
