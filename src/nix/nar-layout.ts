/**
 * What the NAR of a walked tree looks like without its file contents: exact size, and any byte range of it as pieces.
 * Pure: whoever has the tree reads the contents (`store/nar-stream.ts`).
 *
 * A NAR is a frame (magic, tags, names, lengths, padding) with file contents set into it. The frame is kept as one
 * buffer, the places of the contents as arrays of numbers, so that a tree of 100,000 files costs some 30 MB and no
 * object a piece, and a range is found by bisection.
 */
import { NAR_MAX_BYTES, NAR_MAX_DEPTH, NAR_MAX_ENTRIES_COUNT } from '../limits.ts'
import type { ByteRange } from '../source.ts'
import {
  NAR_LENGTH_BYTES,
  NAR_MAGIC,
  narNameFault,
  narPadding,
  narStrings,
  narTargetFault,
  quoteBytes,
} from './nar-encode.ts'

interface NarFile {
  readonly type: 'regular'
  /** Bytes. */
  readonly size: number
  readonly executable: boolean
  /** Where the contents are; never read here. A Buffer when it is not UTF-8. */
  readonly path: string | Buffer
}

interface NarSymlink {
  readonly type: 'symlink'
  readonly target: Uint8Array
}

interface NarDirectory {
  readonly type: 'directory'
  /** In any order. */
  readonly entries: readonly NarDirectoryEntry[]
}

export interface NarDirectoryEntry {
  readonly name: Uint8Array
  readonly node: NarNode
}

export type NarNode = NarFile | NarSymlink | NarDirectory

export interface NarLayout {
  readonly narSize: number
  /** Everything that is not file contents, end to end. */
  readonly frame: Uint8Array
  /** Files that have contents, in the order of the NAR. */
  readonly files: readonly NarFile[]
  /** Offset in the NAR at which the contents of `files[i]` begin. One more at the end: `narSize`. */
  readonly contentStarts: Float64Array
  /** Sum of the sizes of the files before `files[i]`. One more at the end: that of all. */
  readonly contentsBefore: Float64Array
}

/** Bytes `from` (inclusive) to `to` (exclusive) of a file's contents. */
export interface NarFilePiece {
  readonly file: NarFile
  readonly from: number
  readonly to: number
}

/** Bytes of the frame (a view, not to be changed), or of a file. */
export type NarPiece = Uint8Array | NarFilePiece

/** A tree that no NAR may hold: a name, target, depth, size or type out of bounds. Nothing can serve such a path. */
export class NarTreeError extends Error {
  override readonly name = 'NarTreeError'
}

const REGULAR_OPEN = narStrings('(', 'type', 'regular', 'contents')
const EXECUTABLE_OPEN = narStrings('(', 'type', 'regular', 'executable', '', 'contents')
const SYMLINK_OPEN = narStrings('(', 'type', 'symlink', 'target')
const DIRECTORY_OPEN = narStrings('(', 'type', 'directory')
const ENTRY_OPEN = narStrings('entry', '(', 'name')
const ENTRY_NODE = narStrings('node')
const CLOSE = narStrings(')')

/** @throws NarTreeError for what the newest Nix would refuse to unpack (depth, names, targets, duplicates) */
export function layoutNar(root: NarNode): NarLayout {
  const frame = createFrame()
  const files: NarFile[] = []
  const contentStarts: number[] = []
  const contentsBefore: number[] = []
  let contents = 0
  let entries = 0

  const placeFile = (file: NarFile): void => {
    if (!Number.isSafeInteger(file.size) || file.size < 0)
      throw new NarTreeError(`size of a file must be a whole number of bytes, got ${file.size}`)
    frame.append(file.executable ? EXECUTABLE_OPEN : REGULAR_OPEN)
    frame.appendLength(file.size)
    if (file.size > 0) {
      files.push(file)
      contentStarts.push(frame.size() + contents)
      contentsBefore.push(contents)
      contents += file.size
    }
    frame.appendZeros(narPadding(file.size))
  }

  const placeDirectory = (directory: NarDirectory, depth: number): void => {
    frame.append(DIRECTORY_OPEN)
    let previous: Uint8Array | undefined
    for (const { name, node } of directory.entries.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
      const fault = narNameFault(name)
      if (fault !== undefined) throw new NarTreeError(`name ${quoteBytes(name)} ${fault}`)
      if (previous !== undefined && Buffer.compare(previous, name) === 0)
        throw new NarTreeError(`name ${quoteBytes(name)} comes twice in one directory`)
      previous = name
      frame.append(ENTRY_OPEN)
      frame.appendString(name)
      frame.append(ENTRY_NODE)
      place(node, depth + 1)
      frame.append(CLOSE)
    }
  }

  const place = (node: NarNode, depth: number): void => {
    if (depth >= NAR_MAX_DEPTH) throw new NarTreeError(`more than ${NAR_MAX_DEPTH - 1} nested directories`)
    entries += 1
    if (entries > NAR_MAX_ENTRIES_COUNT) throw new NarTreeError(`more than ${NAR_MAX_ENTRIES_COUNT} entries`)
    switch (node.type) {
      case 'regular':
        placeFile(node)
        break
      case 'symlink': {
        const fault = narTargetFault(node.target)
        if (fault !== undefined) throw new NarTreeError(`symlink target ${quoteBytes(node.target)} ${fault}`)
        frame.append(SYMLINK_OPEN)
        frame.appendString(node.target)
        break
      }
      case 'directory':
        placeDirectory(node, depth)
        break
      default:
        node satisfies never
    }
    frame.append(CLOSE)
  }

  frame.append(narStrings(NAR_MAGIC))
  place(root, 0)
  const narSize = frame.size() + contents
  if (narSize > NAR_MAX_BYTES)
    throw new NarTreeError(`NAR of ${narSize} bytes, at most ${NAR_MAX_BYTES} are allowed`)
  contentStarts.push(narSize)
  contentsBefore.push(contents)
  return {
    narSize,
    frame: frame.finish(),
    files,
    contentStarts: Float64Array.from(contentStarts),
    contentsBefore: Float64Array.from(contentsBefore),
  }
}

/**
 * The pieces that make up `range`, in order and without empty ones.
 * @throws RangeError when the range does not lie within the NAR
 */
export function sliceLayout(layout: NarLayout, range: ByteRange): Iterable<NarPiece> {
  checkRange(layout, range)
  return pieces(layout, range.start, range.end)
}

/** @throws RangeError when the range does not lie within the NAR */
export function checkRange({ narSize }: NarLayout, { start, end }: ByteRange): void {
  if (
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(end) &&
    0 <= start &&
    start <= end &&
    end <= narSize
  )
    return
  throw new RangeError(`range [${start}, ${end}) does not lie within a NAR of ${narSize} bytes`)
}

function* pieces(layout: NarLayout, start: number, end: number): Generator<NarPiece> {
  const { frame, files, contentStarts, contentsBefore, narSize } = layout
  let at = start
  for (let index = firstFileEndingAfter(layout, start); at < end; index += 1) {
    const contentStart = contentStarts[index] ?? narSize
    if (at < contentStart) {
      const to = Math.min(contentStart, end)
      const before = contentsBefore[index] ?? 0
      yield frame.subarray(at - before, to - before)
      at = to
    }
    const file = files[index]
    if (file !== undefined && at < end) {
      const to = Math.min(contentStart + file.size, end)
      yield { file, from: at - contentStart, to: to - contentStart }
      at = to
    }
  }
}

/** Bisection; `files.length` when the contents of all files end at or before `offset`. */
function firstFileEndingAfter({ files, contentStarts }: NarLayout, offset: number): number {
  let low = 0
  let high = files.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((contentStarts[middle] ?? 0) + (files[middle]?.size ?? 0) > offset) high = middle
    else low = middle + 1
  }
  return low
}

interface Frame {
  append(bytes: Uint8Array): void
  appendLength(length: number): void
  appendString(bytes: Uint8Array): void
  appendZeros(count: number): void
  size(): number
  finish(): Uint8Array
}

function createFrame(): Frame {
  let buffer = Buffer.alloc(4096)
  let size = 0
  const reserve = (count: number): void => {
    if (size + count <= buffer.length) return
    const larger = Buffer.alloc(Math.max(2 * buffer.length, size + count))
    buffer.copy(larger, 0, 0, size)
    buffer = larger
  }
  const append = (bytes: Uint8Array): void => {
    reserve(bytes.length)
    buffer.set(bytes, size)
    size += bytes.length
  }
  const appendLength = (length: number): void => {
    reserve(NAR_LENGTH_BYTES)
    buffer.writeUInt32LE(length % 2 ** 32, size)
    buffer.writeUInt32LE(Math.floor(length / 2 ** 32), size + 4)
    size += NAR_LENGTH_BYTES
  }
  /** The buffer is zeroed when it is made and never written twice. */
  const appendZeros = (count: number): void => {
    reserve(count)
    size += count
  }
  return {
    append,
    appendLength,
    appendZeros,
    appendString(bytes) {
      appendLength(bytes.length)
      append(bytes)
      appendZeros(narPadding(bytes.length))
    },
    size: () => size,
    /** A copy of its exact size: the layout lives long in a cache. */
    finish: () => new Uint8Array(buffer.subarray(0, size)),
  }
}
