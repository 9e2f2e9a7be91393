import { constants } from 'node:fs'
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { NAR_MAX_BYTES } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { NarRef } from '../source.ts'
import { SpoolCorruptError, SpoolWriteError } from './errors.ts'
import { createLeafBitmap, type LeafBitmap } from './leaf-bitmap.ts'
import { openPlainFile, partPath, syncFolder } from './nar-file.ts'
import type { SpoolRows } from './rows.ts'

/** The `.part` of a NAR, open for reading and writing. */
export interface OpenPart {
  readonly narHash: NarHash
  readonly narSize: number
  readonly path: string
  readonly handle: FileHandle
  readonly leaves: LeafBitmap
}

interface PartDeps {
  dir: string
  rows: SpoolRows
  clock: () => number
  /** For faults that no disk shows on demand. */
  wrapHandle: (handle: FileHandle) => FileHandle
}

/**
 * Takes up the kept `.part` of this NAR if there is one of the same size, else makes a new one.
 *
 * @throws RangeError, SpoolWriteError
 */
export async function openPart(nar: NarRef, deps: PartDeps): Promise<OpenPart> {
  const { narHash, narSize } = nar
  if (!Number.isSafeInteger(narSize) || narSize < 1 || narSize > NAR_MAX_BYTES) {
    throw new RangeError(`NAR ${narHash}: expected a size of 1..${NAR_MAX_BYTES} bytes, got ${narSize}`)
  }
  return (await resume(nar, deps)) ?? (await start(nar, deps))
}

async function resume(
  { narHash, narSize }: NarRef,
  { dir, rows, clock, wrapHandle }: PartDeps,
): Promise<OpenPart | undefined> {
  const row = rows.part(narHash)
  if (row === undefined || row.narSize !== narSize) return undefined
  const path = partPath(dir, narHash)
  const file = await openPlainFile(path).catch((error: unknown) => {
    if (error instanceof SpoolCorruptError) return undefined
    throw error
  })
  if (file === undefined) return undefined
  const { handle, size } = file
  try {
    if (size > narSize) throw new SpoolCorruptError(path, `expected at most ${narSize} bytes, got ${size}`)
    const leaves = createLeafBitmap(narSize, { bits: row.leaves, fileSize: size })
    // Bits past the file's end must go before the file grows again and seems to bear them out with a hole.
    if (!rows.savePart(narHash, { narSize, leaves: leaves.snapshot(), bytes: leaves.bytes }, clock())) {
      throw new SpoolCorruptError(path, 'its row cannot be written')
    }
    return { narHash, narSize, path, handle: wrapHandle(handle), leaves }
  } catch (error) {
    await handle.close()
    if (error instanceof SpoolCorruptError) return undefined
    throw error
  }
}

async function start({ narHash, narSize }: NarRef, { dir, rows, wrapHandle }: PartDeps): Promise<OpenPart> {
  const path = partPath(dir, narHash)
  const folder = dirname(path)
  try {
    rows.deletePart(narHash)
    if (await makeFolder(folder)) await syncFolder(dir)
    await rm(path, { recursive: true, force: true })
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    return {
      narHash,
      narSize,
      path,
      handle: wrapHandle(await open(path, flags, 0o600)),
      leaves: createLeafBitmap(narSize),
    }
  } catch (cause) {
    throw new SpoolWriteError(path, cause)
  }
}

/** @returns whether it was not there. Not `recursive`: Node then says ENOENT where a read-only disk says EROFS. */
async function makeFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder, { mode: 0o700 })
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    // Somebody removed all of the spool under us.
    if (code !== 'ENOENT') throw error
    return (await mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined
  }
}
