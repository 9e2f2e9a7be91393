import { closeSync, constants, fstatSync, openSync, read, readSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { STORE_READ_BYTES, STORE_SYNC_READ_BYTES, STORE_TURN_COUNT } from '../limits.ts'
import { quoteBytes } from '../nix/nar-encode.ts'
import { checkRange, sliceLayout } from '../nix/nar-layout.ts'
import type { NarFilePiece, NarLayout } from '../nix/nar-layout.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { orChanged, StorePathChangedError } from './errors.ts'
import type { StoreLayout } from './layout-cache.ts'
import { createStamp } from './stamp.ts'
import type { Stamp, StampBuilder } from './stamp.ts'

const readAsync = promisify(read)

/** Not through a symlink, and without waiting for the other end of a FIFO, should there be one by now. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/**
 * Bytes of a NAR, made from its layout and the files it names: chunks of STORE_READ_BYTES, the last one shorter, each a
 * buffer of its own. No file stays open between two chunks, so an abandoned stream leaves nothing behind.
 *
 * @throws RangeError for a range outside of the NAR, StorePathChangedError when a file is not as the layout says
 */
export async function* streamNar(
  layout: NarLayout,
  range: ByteRange,
  options: CallOptions,
): AsyncGenerator<Uint8Array> {
  checkRange(layout, range)
  for (let start = range.start; start < range.end; start += STORE_READ_BYTES) {
    options.signal.throwIfAborted()
    yield await readChunk(layout, { start, end: Math.min(start + STORE_READ_BYTES, range.end) })
  }
}

/**
 * The same bytes into a buffer of the caller's.
 *
 * @returns what tells whether a later read of the range reads the same files unchanged
 * @throws as `streamNar`; RangeError when the buffer is not as long as the range
 */
export async function readNarInto(
  layout: StoreLayout,
  { start, end }: ByteRange,
  target: Uint8Array,
): Promise<Stamp> {
  if (target.length !== end - start) {
    throw new RangeError(`expected a buffer of ${end - start} bytes, got ${target.length}`)
  }
  return readOnce(createNarReader(layout), start, target)
}

/** For who reads range after range: the large file that was read last stays open for the next. */
export interface NarReader {
  /**
   * Bytes of the NAR from `start` on, as many as the buffer is long; one call at a time.
   *
   * @returns and throws as `readNarInto`
   */
  read(start: number, target: Uint8Array): Promise<Stamp>
  /** To be called once nothing is being read. */
  close(): void
}

export function createNarReader(layout: StoreLayout): NarReader {
  const latest = createLatestFile()
  return {
    async read(start, target) {
      const range = { start, end: start + target.length }
      checkRange(layout, range)
      const stamp = createStamp(layout.frameMark)
      await fill(layout, range, target, { stamp, latest })
      return stamp.finish()
    },
    close: () => latest.close(),
  }
}

/** One range, and closes the reader. */
export async function readOnce(reader: NarReader, start: number, target: Uint8Array): Promise<Stamp> {
  try {
    return await reader.read(start, target)
  } finally {
    reader.close()
  }
}

/** The one file that stays open between two pieces of it. */
interface LatestFile {
  /** @throws StorePathChangedError */
  open(path: string | Buffer): number
  close(): void
}

function createLatestFile(): LatestFile {
  let latest: { path: string | Buffer; fd: number } | undefined
  const close = (): void => {
    if (latest !== undefined) closeSync(latest.fd)
    latest = undefined
  }
  return {
    open(path) {
      if (latest?.path === path) return latest.fd
      close()
      const fd = orChanged(path, () => openSync(path, OPEN_FLAGS))
      latest = { path, fd }
      return fd
    },
    close,
  }
}

async function readChunk(layout: NarLayout, range: ByteRange): Promise<Uint8Array> {
  const chunk = Buffer.allocUnsafeSlow(range.end - range.start)
  const latest = createLatestFile()
  try {
    await fill(layout, range, chunk, { latest })
    return chunk
  } finally {
    latest.close()
  }
}

async function fill(
  layout: NarLayout,
  range: ByteRange,
  chunk: Uint8Array,
  { stamp, latest }: { stamp?: StampBuilder; latest: LatestFile },
): Promise<void> {
  let filled = 0
  let files = 0
  let hadTurn = false
  for (const piece of sliceLayout(layout, range)) {
    if (piece instanceof Uint8Array) {
      chunk.set(piece, filled)
      filled += piece.length
      continue
    }
    const size = piece.to - piece.from
    const target = chunk.subarray(filled, filled + size)
    filled += size
    files += 1
    if (size < STORE_SYNC_READ_BYTES) readPiece(piece, target, stamp)
    else await readLargePiece(piece, target, latest, stamp)
    if (files % STORE_TURN_COUNT === 0) await setImmediate()
    hadTurn ||= size >= STORE_SYNC_READ_BYTES || files % STORE_TURN_COUNT === 0
  }
  if (!hadTurn) await setImmediate()
}

function readPiece(piece: NarFilePiece, target: Uint8Array, stamp?: StampBuilder): void {
  const { path } = piece.file
  const fd = orChanged(path, () => openSync(path, OPEN_FLAGS))
  try {
    let done = 0
    while (done < target.length) {
      const at = piece.from + done
      const count = orChanged(path, () => readSync(fd, target, done, target.length - done, at))
      if (count === 0) throw changed(piece, `ends at byte ${at}`)
      done += count
    }
    checkAsLaidOut(piece, fd, stamp)
  } finally {
    closeSync(fd)
  }
}

/** In the thread pool: cold contents of this size take a disk longer than anybody else should wait. */
async function readLargePiece(
  piece: NarFilePiece,
  target: Uint8Array,
  latest: LatestFile,
  stamp?: StampBuilder,
): Promise<void> {
  const { path } = piece.file
  const fd = latest.open(path)
  let done = 0
  while (done < target.length) {
    const at = piece.from + done
    const { bytesRead } = await readAsync(fd, target, done, target.length - done, at).catch(
      (error: unknown) =>
        orChanged(path, () => {
          throw error
        }),
    )
    if (bytesRead === 0) throw changed(piece, `ends at byte ${at}`)
    done += bytesRead
  }
  checkAsLaidOut(piece, fd, stamp)
}

/** After the read: one look at the file serves for that and for the stamp, and of 5,000 small files each look counts. */
function checkAsLaidOut(piece: NarFilePiece, fd: number, stamp: StampBuilder | undefined): void {
  const stats = fstatSync(fd)
  if (!stats.isFile()) throw changed(piece, 'is no file')
  if (stats.size !== piece.file.size) throw changed(piece, `has ${stats.size} bytes`)
  stamp?.add(stats)
}

function changed({ file }: NarFilePiece, what: string): StorePathChangedError {
  const path = quoteBytes(Buffer.from(file.path))
  return new StorePathChangedError(`${path} ${what}, where the NAR has ${file.size} bytes of a file`)
}
