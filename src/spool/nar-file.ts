import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { SPOOL_READ_BYTES } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { SpoolCorruptError } from './errors.ts'

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

/**
 * Opens a plain file for reading (or for reading and writing), and nothing else: no symlink is followed and a FIFO
 * does not block.
 *
 * @throws SpoolCorruptError
 */
export async function openPlainFile(
  path: string,
  write = false,
): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle | undefined
  try {
    const access = write ? constants.O_RDWR : constants.O_RDONLY
    handle = await open(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK)
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

/**
 * Bytes of the range in chunks of SPOOL_READ_BYTES, the last one shorter. Each chunk is a buffer of its own.
 *
 * @throws SpoolCorruptError when the file ends before the range does, or cannot be read
 */
export async function* readChunks(
  handle: FileHandle,
  path: string,
  range: ByteRange,
  { signal }: CallOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = range.start; at < range.end;) {
    signal.throwIfAborted()
    const chunk = await readExactly(handle, path, at, Math.min(SPOOL_READ_BYTES, range.end - at))
    at += chunk.length
    yield chunk
  }
}

async function readExactly(
  handle: FileHandle,
  path: string,
  at: number,
  length: number,
): Promise<Uint8Array> {
  // Not from Node's pool: a chunk may be transferred to another thread.
  const chunk = Buffer.allocUnsafeSlow(length)
  await readInto(handle, path, at, chunk)
  return chunk
}

/** Fills the buffer from offset `at` on. @throws SpoolCorruptError when the file ends before, or cannot be read */
export async function readInto(
  handle: FileHandle,
  path: string,
  at: number,
  chunk: Uint8Array,
): Promise<void> {
  const { length } = chunk
  for (let filled = 0; filled < length;) {
    let bytesRead: number
    try {
      bytesRead = (await handle.read(chunk, filled, length - filled, at + filled)).bytesRead
    } catch (cause) {
      throw new SpoolCorruptError(path, `cannot be read at offset ${at + filled}`, { cause })
    }
    if (bytesRead === 0) {
      throw new SpoolCorruptError(
        path,
        `expected bytes up to ${at + length}, the file ends at ${at + filled}`,
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
