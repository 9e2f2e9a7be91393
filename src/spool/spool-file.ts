import { rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LEAF_BYTES, leafSize } from '../dag/profile.ts'
import { SPOOL_SAVE_LEAVES_COUNT } from '../limits.ts'
import type { ByteRange } from '../source.ts'
import type { Stamp } from '../store/stamp.ts'
import { SpoolCorruptError, SpoolWriteError } from './errors.ts'
import { checkRange, narPath, readChunks, stampOf, syncFolder } from './nar-file.ts'
import type { ChunkOptions } from './nar-file.ts'
import type { OpenPart } from './part.ts'
import { createRecentBytes } from './recent-bytes.ts'
import type { RecentPiece } from './recent-bytes.ts'
import type { SpoolRows } from './rows.ts'

/**
 * One NAR being written: one writer, any number of readers. Checks sizes, never contents: leaves come checked, and the
 * NarHash is the transfer's to prove before `commit`.
 *
 * Writes are queued one after the other (the kernel holds the inode's lock for each anyway), and bytes of a stream are
 * never written over a leaf that is there.
 */
export interface SpoolFile {
  /** Bytes. */
  readonly narSize: number
  /**
   * Bytes from 0 that are on disk without a gap. More than 0 at once when a kept `.part` is taken up: it has been on
   * disk unwatched, so hash it again before use.
   */
  readonly prefix: number
  /**
   * Writes at `prefix`, which then may advance by more than was given, over leaves put earlier: who appends a stream
   * looks at `prefix` before each call.
   *
   * @param release called once, when the bytes are on disk and no reader has them from here; not called where that is not
   * known. Without it nobody may change them any more
   * @throws RangeError past `narSize`, SpoolWriteError
   */
  append(bytes: Uint8Array, release?: () => void): Promise<void>
  /** @throws RangeError when the length is not that of the leaf, SpoolWriteError */
  putLeaf(index: number, bytes: Uint8Array): Promise<void>
  hasLeaf(index: number): boolean
  /** Of the bytes that were appended last, and still lie in memory, the range's first ones. Undefined when it is better to `read`. */
  recent(range: ByteRange): RecentPiece | undefined
  /**
   * Bytes that are on disk, also while more are written and after `commit`.
   *
   * @throws RangeError when not all of the range is on disk yet, SpoolCorruptError, the reason given to `abandon`
   */
  read(range: ByteRange, options: ChunkOptions): AsyncIterable<Uint8Array>
  /**
   * Makes the NAR whole: size check, fsync, rename, fsync of the folder, row [security 4].
   *
   * Whatever it throws, the `.part` is gone: after a failed fsync its pages are marked clean, and prove nothing.
   *
   * @throws SpoolCorruptError when it is not complete, SpoolWriteError
   */
  commit(): Promise<void>
  /** Gives up; without `keep` the `.part` goes. Does nothing after `commit`. */
  abandon(reason: Error, keep?: boolean): Promise<void>
}

export function createSpoolFile(
  part: OpenPart,
  deps: {
    dir: string
    rows: SpoolRows
    clock: () => number
    /** Asked for more room when the disk is full. @returns whether there is some now */
    squeeze: (bytes: number) => Promise<boolean>
    /** The disk did not take the bytes. */
    onFailure: (error: SpoolWriteError) => void
    /** Readers of the part, for whoever evicts. @returns what each calls when it is done */
    enter: () => () => void
    /** Reads of the whole NAR, once it is committed. */
    readWhole: (range: ByteRange, options: ChunkOptions) => AsyncIterable<Uint8Array>
    /** Proved, whole, and closed for ever; this is how the file was left. */
    onSealed: (stamp: Stamp) => void
    /** The NAR has no writer any more. */
    onEnd: () => void
  },
): SpoolFile {
  const { narHash, narSize, path, handle, leaves } = part
  const { dir, rows, clock, squeeze, readWhole, onEnd } = deps
  /** Owner: this function. 'writing' ends once, in `commit` or `abandon`. */
  let state: 'writing' | 'ending' | 'whole' | 'abandoned' = 'writing'
  let abandonReason: Error | undefined
  /** The last queued write, while there is one; never rejects. */
  let lastWrite: Promise<void> | undefined
  /** The save of the bitmap under way; never rejects. */
  let saving: Promise<void> | undefined
  let savedBytes = leaves.bytes
  /** A damaged part, or a failed write-back (told once by the kernel: no later fsync is to be believed). Never kept. */
  let failure: SpoolWriteError | undefined
  /** The writer and each reader; the last one closes the handle. */
  let users = 1
  const recent = createRecentBytes()
  /** The whole file, as it was left. */
  let sealed: Stamp | undefined

  const release = async (): Promise<void> => {
    if (--users === 0) await handle.close()
  }

  const assertWriting = (): void => {
    if (failure) throw failure
    if (state === 'writing') return
    throw new SpoolWriteError(path, abandonReason ?? new Error(`the file is ${state}`))
  }

  /** For errors of the disk itself: nothing that this file says is to be believed any more. */
  const fail = (cause: unknown): SpoolWriteError => {
    if (failure === undefined) {
      failure = new SpoolWriteError(path, cause)
      deps.onFailure(failure)
    }
    return failure
  }

  const writeAt = async (position: number, bytes: Uint8Array): Promise<void> => {
    let squeezed = false
    for (let done = 0; done < bytes.length;) {
      try {
        done += (await handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten
      } catch (cause) {
        if (squeezed || !isFull(cause) || !(await squeeze(narSize - leaves.bytes))) throw fail(cause)
        squeezed = true
      }
    }
  }

  /** The first write begins within the call, so that the caller's hashing and the disk work at the same time. */
  const queued = async (write: () => Promise<void>): Promise<void> => {
    assertWriting()
    const before = lastWrite
    const written = (async () => {
      if (before !== undefined) await before
      if (failure) throw failure
      if (abandonReason) throw new SpoolWriteError(path, abandonReason)
      await write()
      saveSoon()
    })()
    const settled = written.catch(() => {})
    lastWrite = settled
    try {
      await written
    } finally {
      if (lastWrite === settled) lastWrite = undefined
    }
  }

  /**
   * Saves which leaves are on disk, in the order data, fdatasync, bits: after a power cut too no bit claims a leaf that
   * is not there. It costs little, for `commit` would have to wait for the same pages. What the bits do not say is that
   * nobody has changed the file since; who resumes hashes it again.
   */
  const save = async (): Promise<void> => {
    const bits = leaves.snapshot()
    const bytes = leaves.bytes
    try {
      await handle.datasync()
    } catch (cause) {
      fail(cause)
      return
    }
    // Not noted is not resumed, and no harm.
    rows.savePart(narHash, { narSize, leaves: bits, bytes }, clock())
    savedBytes = bytes
  }

  const saveSoon = (): void => {
    if (saving !== undefined || leaves.bytes - savedBytes < SPOOL_SAVE_LEAVES_COUNT * LEAF_BYTES) return
    saving = save().finally(() => (saving = undefined))
  }

  const settle = async (): Promise<void> => {
    await lastWrite
    await saving
  }

  const discard = async (): Promise<void> => {
    rows.deletePart(narHash)
    await rm(path, { recursive: true, force: true })
  }

  /** A function, for the compiler does not see that it changes over an await. */
  const throwIfAbandoned = (): void => {
    if (abandonReason) throw abandonReason
  }

  async function* read(range: ByteRange, options: ChunkOptions): AsyncGenerator<Uint8Array, void, undefined> {
    checkRange(range, narSize)
    throwIfAbandoned()
    if (sealed !== undefined) {
      // Proved as it was written: whoever writes to it now has to be noticed, for nobody hashes it again on its way out.
      yield* readWhole(range, { ...options, sealed })
      return
    }
    if (leaves.missing(range.start, range.end).length > 0) {
      throw new RangeError(
        `${path}: not all of ${range.start}..${range.end} is on disk, prefix is ${leaves.prefix}`,
      )
    }
    users++
    const leave = deps.enter()
    try {
      for await (const chunk of readChunks(handle.fd, path, range, options)) {
        throwIfAbandoned()
        yield chunk
      }
    } catch (error) {
      if (error instanceof SpoolCorruptError) failure ??= new SpoolWriteError(path, error)
      throw error
    } finally {
      leave()
      await release()
    }
  }

  const makeWhole = async (): Promise<void> => {
    await settle()
    if (failure) throw failure
    const { size } = await handle.stat()
    if (leaves.prefix !== narSize || size !== narSize) {
      const reason = `expected ${narSize} bytes, got ${leaves.prefix} without a gap in a file of ${size}`
      throw new SpoolCorruptError(path, reason)
    }
    const target = narPath(dir, narHash)
    let renamed = false
    try {
      await handle.sync()
      await rename(path, target)
      renamed = true
      await syncFolder(dirname(target))
    } catch (cause) {
      if (renamed) {
        rows.deleteNar(narHash)
        await rm(target, { force: true }).catch(() => {})
      }
      throw fail(cause)
    }
    sealed = stampOf(handle.fd)
    deps.onSealed(sealed)
    rows.commit(narHash, narSize, clock())
    recent.clear()
  }

  const abandon = async (reason: Error, keep: boolean): Promise<void> => {
    abandonReason = reason
    state = 'abandoned'
    recent.clear()
    try {
      await settle()
      if (keep && failure === undefined && leaves.bytes > savedBytes) await save()
      if (!keep || failure !== undefined || leaves.bytes === 0) await discard()
    } finally {
      await release()
      onEnd()
    }
  }

  return {
    narSize,
    get prefix() {
      return leaves.prefix
    },
    append: (bytes, release) =>
      queued(async () => {
        const from = leaves.prefix
        const end = from + bytes.length
        if (end > narSize) {
          throw new RangeError(`${path}: ${bytes.length} bytes at ${from} reach past ${narSize}`)
        }
        for (const gap of leaves.missing(from, end)) {
          await writeAt(gap.start, bytes.subarray(gap.start - from, gap.end - from))
        }
        leaves.setPrefix(end)
        recent.add(from, bytes, release)
      }),
    putLeaf: (index, bytes) =>
      queued(async () => {
        const expected = leafSize(narSize, index)
        if (bytes.length !== expected) {
          throw new RangeError(`${path}: leaf ${index} has ${expected} bytes, got ${bytes.length}`)
        }
        if (leaves.has(index)) return
        await writeAt(index * LEAF_BYTES, bytes)
        leaves.setLeaf(index)
      }),
    hasLeaf: (index) => leaves.has(index),
    recent: (range) => recent.from(range),
    read,
    async commit() {
      assertWriting()
      state = 'ending'
      try {
        await makeWhole()
      } catch (error) {
        // Whatever goes wrong now follows from the first error, and sweeping sees to the rest.
        await abandon(error as Error, false).catch(() => {})
        throw error
      }
      state = 'whole'
      await release()
      onEnd()
    },
    async abandon(reason, keep = false) {
      if (state === 'writing') await abandon(reason, keep)
    },
  }
}

/** EDQUOT: the user's own quota, of which free space says nothing. */
function isFull(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException
  return code === 'ENOSPC' || code === 'EDQUOT'
}
