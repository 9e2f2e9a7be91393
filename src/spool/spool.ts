import { closeSync, lstatSync, rmSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { DatabaseSync } from 'node:sqlite'
import {
  PROOF_MAX_AGE_MS,
  PROOFS_MAX_COUNT,
  SPOOL_TOUCH_MS,
  SPOOL_YOUNG_MAX_COUNT,
  SPOOL_YOUNG_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, NarRef } from '../source.ts'
import { createBestEffort } from '../state/best-effort.ts'
import type { Stamp } from '../store/stamp.ts'
import { SpoolBusyError, SpoolCorruptError, SpoolMissError, SpoolWriteError } from './errors.ts'
import { createFading } from './fading.ts'
import { createInUse } from './in-use.ts'
import { checkRange, narPath, openWhole, partPath, readChunks, readFileInto } from './nar-file.ts'
import type { ChunkOptions } from './nar-file.ts'
import { openPart, type OpenPart } from './part.ts'
import { freeBytesAt, NO_LIMITS, type SpoolLimits } from './quota.ts'
import { createRoom, type Reservation, type TrimRequest } from './room.ts'
import { openSpoolRows, type SpoolTotals } from './rows.ts'
import { createSpoolFile, type SpoolFile } from './spool-file.ts'
import { sweep } from './sweep.ts'
import type { Holding } from './victims.ts'

/**
 * NARs on our own disk: `<dir>/<xx>/<narhash>.nar`, `.part` while incomplete. Rows say maybe, bytes decide: a file that
 * is not what its row says is a SpoolCorruptError, and forgotten. Contents are not hashed here.
 */
export interface Spool {
  readonly limits: SpoolLimits
  /** Whether the whole NAR was committed, by its row. */
  has(narHash: NarHash): boolean
  /**
   * How the file of a NAR was left, when that was in this process and not long ago: its bytes were hashed as they were
   * written, and as long as it bears this stamp they need not be hashed again on their way out (docs/adr/012).
   */
  seal(narHash: NarHash): Stamp | undefined
  /** @throws SpoolMissError, SpoolCorruptError, RangeError */
  read(narHash: NarHash, range: ByteRange, options: ChunkOptions): AsyncIterable<Uint8Array>
  /** Bytes from `offset` on into the whole of a buffer; says which file they came from. @throws as `read` */
  readInto(narHash: NarHash, offset: number, target: Uint8Array): Promise<Stamp>
  /**
   * Starts a NAR or takes up its kept `.part`, after others have made room for it. One that is whole is written anew, and
   * replaced at `commit`.
   *
   * @throws SpoolBusyError, SpoolWriteError, RangeError
   */
  create(nar: NarRef): Promise<SpoolFile>
  /** Removes the whole NAR and a kept `.part`; a reader that has it open reads on. */
  remove(narHash: NarHash): Promise<void>
  /** A whole NAR that is never evicted, since it was told to others that it is here. */
  pin(narHash: NarHash): void
  /** Whole NARs, and their bytes. */
  totals(): { count: number; bytes: number }
  /** Of a whole NAR; 0 when it is not here. */
  bytesOf(narHash: NarHash): number
  usage(): SpoolUsage
  /** On its file system, for an ordinary user; undefined when that does not say. */
  freeBytes(): number | undefined
  whole(): NarHash[]
  /** Of the whole ones those that may go. */
  unpinned(): NarHash[]
  /** Whole NARs that came lately, SPOOL_YOUNG_MAX_COUNT at most. */
  young(): NarHash[]
  /** Evicts one if nobody reads or writes it; the others stay in turn meanwhile. @returns its bytes, 0 if it stays */
  release(narHash: NarHash, before: () => void): Promise<number>
  /** Down to quota and floor, least recently used first, as far as nobody reads them. @returns what went */
  trim(request?: TrimRequest): Promise<Holding[]>
  /** Kept parts that nobody has written to since `time`. @returns what went, or would go */
  expireParts(time: number, dryRun?: boolean): Promise<Holding[]>
}

export interface SpoolUsage extends Omit<SpoolTotals, 'keepableBytes'>, SpoolLimits {
  /** Since this process began: NARs and parts, for room or since the local store has them. */
  readonly evicted: number
  readonly evictedBytes: number
}

export interface SpoolDeps {
  db: DatabaseSync
  /** The spool's own folder, made when absent. */
  dir: string
  log: Log
  clock?: () => number
  /** None by default. */
  limits?: SpoolLimits
  /** A whole NAR was evicted for room: what the leaf index knows of it has lost this place. */
  evicted?: (narHash: NarHash) => void
  /** For a worker beside the spool's owner: does not sweep, and refuses `create` and `remove`. */
  readOnly?: boolean
  /** For faults that no disk shows on demand: what writes a NAR. */
  wrapHandle?: (handle: FileHandle) => FileHandle
  freeBytes?: () => number | undefined
}

export async function openSpool(deps: SpoolDeps): Promise<Spool> {
  const { db, dir, log, clock = Date.now, limits = NO_LIMITS, readOnly = false } = deps
  const { wrapHandle = (handle: FileHandle) => handle } = deps
  const rows = openSpoolRows(db, createBestEffort({ log, clock }), limits.maxBytes)
  const inUse = createInUse(clock)
  /** NARs that have a writer. Owner: `create`; the writer's end removes it. */
  const writers = new Map<NarHash, Reservation>()
  /** In order of time. */
  const committed = new Map<NarHash, number>()
  const seals = createFading<NarHash, Stamp>({ max: PROOFS_MAX_COUNT, maxAgeMs: PROOF_MAX_AGE_MS, clock })
  const gone = { count: 0, bytes: 0 }
  const freeBytes = deps.freeBytes ?? (() => freeBytesAt(dir))
  const room = createRoom({
    dir,
    rows,
    limits,
    inUse,
    reservations: writers,
    evict: (holding) => evict(holding, deps.evicted),
    freeBytes,
    clock,
    log,
  })
  if (!readOnly) {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await sweep(dir, rows, log)
  }

  const assertWritable = (): void => {
    if (readOnly) throw new TypeError('this spool was opened read-only')
  }

  async function evict({ kind, narHash, bytes }: Holding, evicted?: (one: NarHash) => void): Promise<void> {
    if (kind === 'nar') {
      evicted?.(narHash)
      rows.deleteNar(narHash)
      committed.delete(narHash)
    } else rows.deletePart(narHash)
    gone.count += 1
    gone.bytes += bytes
    await removeFile(kind === 'nar' ? narPath(dir, narHash) : partPath(dir, narHash))
  }

  /** One that the disk does not let go stays without a row, and the next start finds it. */
  async function removeFile(path: string): Promise<void> {
    try {
      await rm(path, { recursive: true, force: true })
    } catch (error) {
      room.tellOnce('remove', { path, err: error }, 'spool: a file cannot be removed')
    }
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
    try {
      rmSync(path, { recursive: true, force: true })
    } catch (cause) {
      room.tellOnce('remove', { path, err: cause }, 'spool: a file cannot be removed')
    }
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
    options: ChunkOptions,
  ): AsyncGenerator<Uint8Array, void> {
    const { path, bytes } = locate(narHash, range)
    const leave = inUse.enter(narHash)
    try {
      const fd = openWhole(path, bytes)
      try {
        yield* readChunks(fd, path, range, options)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (error instanceof SpoolCorruptError) forget(narHash, error)
      throw error
    } finally {
      leave()
    }
  }

  async function readWholeInto(narHash: NarHash, offset: number, target: Uint8Array): Promise<Stamp> {
    const { path, bytes } = locate(narHash, { start: offset, end: offset + target.length })
    const leave = inUse.enter(narHash)
    try {
      return await readFileInto(path, bytes, offset, target)
    } catch (error) {
      if (error instanceof SpoolCorruptError) forget(narHash, error)
      throw error
    } finally {
      leave()
    }
  }

  const noteCommitted = (narHash: NarHash): void => {
    const now = clock()
    // Who follows its writer comes back for the rest.
    inUse.enter(narHash)()
    committed.delete(narHash)
    committed.set(narHash, now)
    for (const [oldest, at] of committed) {
      if (now - at <= SPOOL_YOUNG_MS && committed.size <= SPOOL_YOUNG_MAX_COUNT) break
      committed.delete(oldest)
    }
  }

  async function create(nar: NarRef): Promise<SpoolFile> {
    const { narHash, narSize } = nar
    const had = rows.part(narHash)?.bytes ?? 0
    let part: OpenPart | undefined
    writers.set(narHash, { narSize, written: () => part?.leaves.bytes ?? had })
    const onEnd = (): void => {
      writers.delete(narHash)
      if (rows.nar(narHash) !== undefined) noteCommitted(narHash)
    }
    try {
      await room.admit(nar)
      part = await openPart(nar, { dir, rows, clock, wrapHandle }).catch((error: unknown) => {
        if (error instanceof SpoolWriteError) room.failed(error)
        throw error
      })
      return createSpoolFile(part, {
        dir,
        rows,
        clock,
        squeeze: (bytes) => room.squeeze(bytes),
        onFailure: (error) => room.failed(error),
        enter: () => inUse.enter(narHash),
        readWhole: (range, options) => read(narHash, range, options),
        onSealed: (stamp) => void seals.set(narHash, stamp),
        onEnd,
      })
    } catch (error) {
      writers.delete(narHash)
      throw error
    }
  }

  return {
    limits,
    has: (narHash) => rows.nar(narHash) !== undefined,
    seal: (narHash) => (rows.nar(narHash) === undefined ? undefined : seals.get(narHash)),
    read,
    readInto: readWholeInto,
    async create(nar) {
      assertWritable()
      if (writers.has(nar.narHash)) throw new SpoolBusyError(nar.narHash)
      return create(nar)
    },
    async remove(narHash) {
      assertWritable()
      rows.deleteNar(narHash)
      await removeFile(narPath(dir, narHash))
      if (writers.has(narHash)) return
      rows.deletePart(narHash)
      await removeFile(partPath(dir, narHash))
    },
    pin: (narHash) => rows.pin(narHash),
    totals() {
      const { nars, bytes } = rows.totals()
      return { count: nars, bytes }
    },
    bytesOf: (narHash) => rows.nar(narHash)?.bytes ?? 0,
    usage() {
      const { keepableBytes: _, ...totals } = rows.totals()
      return { ...totals, ...limits, evicted: gone.count, evictedBytes: gone.bytes }
    },
    freeBytes,
    whole: () => [...rows.all('nar')],
    unpinned: () => [...rows.all('unpinned')],
    young: () => [...committed].filter(([, at]) => clock() - at <= SPOOL_YOUNG_MS).map(([one]) => one),
    release: (narHash, before) =>
      room.exclusive(async () => {
        const row = rows.nar(narHash)
        if (row === undefined || row.pinned || writers.has(narHash) || inUse.of(narHash) !== 'idle') return 0
        before()
        await evict({ kind: 'nar', narHash, bytes: row.bytes })
        return row.bytes
      }),
    trim: (request) => room.trim(request),
    expireParts: (time, dryRun = false) =>
      room.exclusive(async () => {
        const old = rows.partsBefore(time).filter(({ narHash }) => !writers.has(narHash))
        if (!dryRun) for (const part of old) await evict(part)
        return old
      }),
  }
}
