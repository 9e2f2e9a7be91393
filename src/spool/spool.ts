import { lstatSync, rmSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import type { DatabaseSync } from 'node:sqlite'
import { SPOOL_TOUCH_MS } from '../limits.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, CallOptions, NarRef } from '../source.ts'
import type { Stamp } from '../store/stamp.ts'
import { SpoolBusyError, SpoolCorruptError, SpoolMissError } from './errors.ts'
import { checkRange, narPath, openPlainFile, partPath, readChunks, readFileInto } from './nar-file.ts'
import { openPart } from './part.ts'
import { openSpoolRows } from './rows.ts'
import { createSpoolFile, type SpoolFile } from './spool-file.ts'
import { sweep } from './sweep.ts'

/**
 * NARs on our own disk: `<dir>/<xx>/<narhash>.nar`, `.part` while incomplete. Rows say maybe, bytes decide: a file that
 * is not what its row says is a SpoolCorruptError, and forgotten. Contents are not hashed here.
 */
export interface Spool {
  /** Whether the whole NAR was committed, by its row. */
  has(narHash: NarHash): boolean
  /** @throws SpoolMissError, SpoolCorruptError, RangeError */
  read(narHash: NarHash, range: ByteRange, options: CallOptions): AsyncIterable<Uint8Array>
  /** Bytes from `offset` on into the whole of a buffer; says which file they came from. @throws as `read` */
  readInto(narHash: NarHash, offset: number, target: Uint8Array): Promise<Stamp>
  /**
   * Starts a NAR or takes up its kept `.part`. One that is whole is written anew, and replaced at `commit`.
   *
   * @throws SpoolBusyError, SpoolWriteError, RangeError
   */
  create(nar: NarRef): Promise<SpoolFile>
  /** Removes the whole NAR and a kept `.part`; a reader that has it open reads on. */
  remove(narHash: NarHash): Promise<void>
  /** Whole NARs, and their bytes. */
  totals(): { count: number; bytes: number }
}

/** @param deps.dir the spool's own folder, made when absent */
export async function openSpool(deps: {
  db: DatabaseSync
  dir: string
  log: Log
  clock?: () => number
  /** For a worker beside the spool's owner: does not sweep, and refuses `create` and `remove`. */
  readOnly?: boolean
}): Promise<Spool> {
  const { db, dir, log, clock = Date.now, readOnly = false } = deps
  const rows = openSpoolRows(db)
  /** NARs that have a writer. Owner: `create`; the writer's end removes it. */
  const writers = new Set<NarHash>()
  if (!readOnly) {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await sweep(dir, rows, log)
  }

  const assertWritable = (): void => {
    if (readOnly) throw new TypeError('this spool was opened read-only')
  }

  /** In one tick with its look at the file, so that a NAR committed anew in the meantime stays. */
  const forget = (narHash: NarHash, error: SpoolCorruptError): void => {
    const row = rows.nar(narHash)
    if (readOnly || row === undefined) return
    const path = narPath(dir, narHash)
    const stat = lstatSync(path, { throwIfNoEntry: false })
    const { code } = (error.cause ?? {}) as NodeJS.ErrnoException
    if (stat?.isFile() === true && stat.size === row.bytes && code !== 'EIO' && code !== 'EACCES') return
    log.warn({ path, err: error }, 'spool: a file is not what was written, it is dropped')
    rows.deleteNar(narHash)
    rmSync(path, { recursive: true, force: true })
  }

  /** Where a whole NAR is, by its row. @throws SpoolMissError, RangeError */
  function locate(narHash: NarHash, range: ByteRange): { path: string; bytes: number } {
    const row = rows.nar(narHash)
    if (row === undefined) throw new SpoolMissError(narHash)
    checkRange(range, row.bytes)
    if (!readOnly && clock() - row.lastUsed > SPOOL_TOUCH_MS) rows.touch(narHash, clock())
    return { path: narPath(dir, narHash), bytes: row.bytes }
  }

  async function* read(
    narHash: NarHash,
    range: ByteRange,
    options: CallOptions,
  ): AsyncGenerator<Uint8Array, void> {
    const { path, bytes } = locate(narHash, range)
    try {
      const { handle, size } = await openPlainFile(path)
      try {
        if (size !== bytes) throw new SpoolCorruptError(path, `expected ${bytes} bytes, got ${size}`)
        yield* readChunks(handle, path, range, options)
      } finally {
        await handle.close()
      }
    } catch (error) {
      if (error instanceof SpoolCorruptError) forget(narHash, error)
      throw error
    }
  }

  async function readWholeInto(narHash: NarHash, offset: number, target: Uint8Array): Promise<Stamp> {
    const { path, bytes } = locate(narHash, { start: offset, end: offset + target.length })
    try {
      return await readFileInto(path, bytes, offset, target)
    } catch (error) {
      if (error instanceof SpoolCorruptError) forget(narHash, error)
      throw error
    }
  }

  return {
    has: (narHash) => rows.nar(narHash) !== undefined,
    read,
    readInto: readWholeInto,
    async create(nar) {
      const { narHash } = nar
      assertWritable()
      if (writers.has(narHash)) throw new SpoolBusyError(narHash)
      writers.add(narHash)
      const onEnd = (): void => void writers.delete(narHash)
      try {
        const readWhole = (range: ByteRange, options: CallOptions) => read(narHash, range, options)
        const part = await openPart(nar, { dir, rows, clock })
        return createSpoolFile(part, { dir, rows, clock, readWhole, onEnd })
      } catch (error) {
        onEnd()
        throw error
      }
    },
    async remove(narHash) {
      assertWritable()
      rows.deleteNar(narHash)
      await rm(narPath(dir, narHash), { recursive: true, force: true })
      if (writers.has(narHash)) return
      rows.deletePart(narHash)
      await rm(partPath(dir, narHash), { recursive: true, force: true })
    },
    totals: () => rows.totals(),
  }
}
