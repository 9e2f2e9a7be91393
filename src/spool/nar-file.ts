import { closeSync, constants, fstatSync, openSync, read } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CHUNK_BYTES } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { createStamp } from '../store/stamp.ts'
import type { Stamp } from '../store/stamp.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'
import { SpoolCorruptError } from './errors.ts'

const readAsync = promisify(read)

/** No symlink is followed, and a FIFO does not block. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** `<dir>/<xx>`: 64 folders, since the first nix32 character of a sha256 holds one bit. */
export function narFolder(dir: string, narHash: NarHash): string {
  return join(dir, narHash.slice(0, 2))
}

export function narPath(dir: string, narHash: NarHash): string {
  return join(narFolder(dir, narHash), `${narHash}.nar`)
}

export function partPath(dir: string, narHash: NarHash): string {
  return `${narPath(dir, narHash)}.part`
}

/** Opens a plain file for reading and writing, and nothing else. @throws SpoolCorruptError */
export async function openPlainFile(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path, READ_FLAGS | constants.O_RDWR)
    const stat = await handle.stat()
    if (!stat.isFile()) throw new Error('expected a plain file')
    return { handle, size: stat.size }
  } catch (cause) {
    await handle?.close()
    if (isShortage(cause)) throw cause
    throw new SpoolCorruptError(path, cause instanceof Error ? cause.message : 'cannot be opened', { cause })
  }
}

/** The process or the machine has run out of something, which says nothing about the file. */
function isShortage(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException
  return code === 'EMFILE' || code === 'ENFILE' || code === 'ENOMEM'
}

/** How a NAR's file is read chunk by chunk. */
export interface ChunkOptions extends CallOptions {
  /** Of the one reader; without them each chunk is a buffer of its own. */
  buffers?: ChunkBuffers
  /** The file must still be as it was then. */
  sealed?: Stamp
}

/**
 * Bytes of the range in chunks as the buffers want them, else of CHUNK_BYTES, the last one shorter.
 *
 * @throws SpoolCorruptError when the file ends before the range does, cannot be read, or is not as it was `sealed`
 */
export async function* readChunks(
  fd: number,
  path: string,
  range: ByteRange,
  { signal, buffers, sealed }: ChunkOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = range.start; at < range.end;) {
    signal.throwIfAborted()
    const length = Math.min(buffers?.size ?? CHUNK_BYTES, range.end - at)
    // Not from Node's pool: a chunk may be transferred to another thread.
    const chunk = buffers?.next(length) ?? Buffer.allocUnsafeSlow(length)
    await fillBuffer(path, at, chunk, (filled) => readAsync(fd, chunk, filled, length - filled, at + filled))
    at += length
    if (sealed !== undefined && stampOf(fd).mark !== sealed.mark) {
      throw new SpoolCorruptError(path, 'has changed since it was written')
    }
    yield chunk
  }
}

/**
 * Fills the buffer from `offset` on with bytes of a file that has `size` of them, read in the thread pool.
 *
 * @returns what tells whether a later read finds the same file unchanged
 * @throws SpoolCorruptError
 */
export async function readFileInto(
  path: string,
  size: number,
  offset: number,
  target: Uint8Array,
): Promise<Stamp> {
  const fd = openWhole(path, size)
  try {
    const read = (at: number): Promise<{ bytesRead: number }> =>
      readAsync(fd, target, at, target.length - at, offset + at)
    await fillBuffer(path, offset, target, read)
    return stampOf(fd)
  } finally {
    closeSync(fd)
  }
}

/** Of an open file. */
export function stampOf(fd: number): Stamp {
  const stamp = createStamp()
  stamp.add(fstatSync(fd))
  return stamp.finish()
}

/**
 * Opens a plain file of that size for reading: at once, since a way to another thread and back costs more on a local disk.
 * The caller closes it.
 *
 * @throws SpoolCorruptError
 */
export function openWhole(path: string, size: number): number {
  let fd: number | undefined
  try {
    fd = openSync(path, READ_FLAGS)
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new Error('expected a plain file')
    if (stats.size !== size) throw new Error(`expected ${size} bytes, got ${stats.size}`)
    return fd
  } catch (cause) {
    if (fd !== undefined) closeSync(fd)
    if (isShortage(cause)) throw cause
    throw new SpoolCorruptError(path, cause instanceof Error ? cause.message : 'cannot be opened', { cause })
  }
}

/** @throws SpoolCorruptError when the file ends before, or cannot be read */
async function fillBuffer(
  path: string,
  offset: number,
  { length }: Uint8Array,
  read: (filled: number) => Promise<{ bytesRead: number }>,
): Promise<void> {
  for (let filled = 0; filled < length;) {
    let bytesRead: number
    try {
      bytesRead = (await read(filled)).bytesRead
    } catch (cause) {
      throw new SpoolCorruptError(path, `cannot be read at offset ${offset + filled}`, { cause })
    }
    if (bytesRead === 0) {
      throw new SpoolCorruptError(
        path,
        `expected bytes up to ${offset + length}, the file ends at ${offset + filled}`,
      )
    }
    filled += bytesRead
  }
}

/** @throws RangeError */
export function checkRange({ start, end }: ByteRange, narSize: number): void {
  if (
    !Number.isSafeInteger(start) ||
    !Number.isSafeInteger(end) ||
    start < 0 ||
    start > end ||
    end > narSize
  ) {
    throw new RangeError(`expected a range within 0..${narSize}, got ${start}..${end}`)
  }
}

/** A new name, or a rename, is on disk only when its folder is. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
