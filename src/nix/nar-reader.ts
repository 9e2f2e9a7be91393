/**
 * A strict NAR parser that bytes are pushed into, in chunks of any size. It holds at most one name or target, never
 * contents. Rules: those of Nix 2.36 (libutil/archive.cc), with the bounds that came after CVE-2026-44028, and three
 * more of ours: nothing after the last bracket, contents no longer than what is left of a known NarSize, and a bound
 * on the number of entries. Nix 2.8 unpacks much that this refuses, so whoever serves it must look.
 */
import {
  NAR_MAX_BYTES,
  NAR_MAX_DEPTH,
  NAR_MAX_ENTRIES_COUNT,
  NAR_MAX_NAME_BYTES,
  NAR_MAX_TAG_BYTES,
  NAR_MAX_TARGET_BYTES,
} from '../limits.ts'
import {
  NAR_LENGTH_BYTES,
  NAR_MAGIC,
  narNameFault,
  narPadding,
  narTargetFault,
  quoteBytes,
} from './nar-encode.ts'

export type NarFault =
  | 'magic' // does not begin with "nix-archive-1"
  | 'tag' // another tag was due: wrong order, a field twice, one missing, or no tag at all
  | 'padding' // not zero
  | 'executable' // the marker has a value
  | 'contents' // longer than what can be left of the NAR
  | 'name' // empty, "." or "..", with "/" or NUL, too long
  | 'order' // names that do not strictly increase by bytes
  | 'target' // empty, with NUL, too long
  | 'depth'
  | 'entries'
  | 'truncated'
  | 'trailing' // bytes after the last bracket
  | 'size' // ends before or after the NarSize it should have

/** Bytes that are no NAR the newest Nix would unpack. */
export class NarFormatError extends Error {
  override readonly name = 'NarFormatError'
  readonly reason: NarFault
  /** Byte of the NAR at which the offending part begins. */
  readonly offset: number
  constructor(reason: NarFault, offset: number, detail: string) {
    super(`bad NAR at byte ${offset}: ${detail}`)
    this.reason = reason
    this.offset = offset
  }
}

/** Told before the children of a directory, and before the contents of a file have been pushed. */
export type NarEntry = {
  /** Names from the root of the NAR; empty for the root itself. */
  readonly path: readonly Uint8Array[]
} & (
  | {
      readonly type: 'regular'
      readonly executable: boolean
      /** Bytes of contents. */
      readonly size: number
      /** Byte of the NAR at which the contents begin. */
      readonly offset: number
    }
  | { readonly type: 'symlink'; readonly target: Uint8Array }
  | { readonly type: 'directory' }
)

export interface NarReaderOptions {
  /** Bytes, as signed. Checked when given. */
  narSize?: number
  onEntry?: (entry: NarEntry) => void
}

export interface NarReader {
  /** @throws NarFormatError, and the same one again ever after */
  push(bytes: Uint8Array): void
  /** No more bytes will come. @throws NarFormatError when the NAR is not whole */
  end(): void
}

export function createNarReader(options: NarReaderOptions = {}): NarReader {
  return new PushParser(options)
}

/** What must come next, one state a string. */
type Due =
  | 'magic'
  | 'node begin'
  | 'type'
  | 'type value'
  | 'executable or contents'
  | 'executable value'
  | 'contents'
  | 'contents value'
  | 'target'
  | 'target value'
  | 'node end'
  | 'entry or node end'
  | 'entry begin'
  | 'name'
  | 'name value'
  | 'node'
  | 'entry end'
  | 'nothing'

const BEGIN = '('
const END = ')'

/** Words that are the only one possible in a state, and the state after them. */
const ONLY: Partial<Record<Due, readonly [tag: string, next: Due]>> = {
  magic: [NAR_MAGIC, 'node begin'],
  type: ['type', 'type value'],
  contents: ['contents', 'contents value'],
  target: ['target', 'target value'],
  'entry begin': [BEGIN, 'name'],
  name: ['name', 'name value'],
  node: ['node', 'node begin'],
  'entry end': [END, 'entry or node end'],
}

/** What the bytes at hand belong to. */
type Phase = 'length' | 'string' | 'contents' | 'contents padding'

/** A target of 4095 bytes with its padding: the longest string there is. */
const HELD_MAX_BYTES = NAR_MAX_TARGET_BYTES + narPadding(NAR_MAX_TARGET_BYTES)

class PushParser implements NarReader {
  readonly #narSize: number | undefined
  readonly #onEntry: ((entry: NarEntry) => void) | undefined

  #failure: NarFormatError | undefined
  #due: Due = 'magic'
  #phase: Phase = 'length'
  /** Bytes taken so far. */
  #offset = 0
  #contentsLeft = 0
  #stringBytes = 0

  /** A length, a padded string or a padding must be whole to be looked at: so many bytes of it are due. */
  #dueBytes = NAR_LENGTH_BYTES
  /** Its beginning, when the end of a chunk has cut it. */
  readonly #held = Buffer.alloc(HELD_MAX_BYTES)
  #heldBytes = 0

  #entries = 0
  #executable = false
  /** Names on the way to the current node. */
  readonly #path: Uint8Array[] = []
  /** The newest name in each open directory. */
  readonly #newest: (Uint8Array | undefined)[] = []

  constructor({ narSize, onEntry }: NarReaderOptions) {
    if (narSize !== undefined && (!Number.isSafeInteger(narSize) || narSize < 0))
      throw new RangeError(`narSize must be a whole number of bytes, got ${narSize}`)
    this.#narSize = narSize
    this.#onEntry = onEntry
  }

  push(bytes: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure
    const left = this.#left()
    this.#take(Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, left)))
    if (bytes.length <= left) return
    throw this.#due === 'nothing'
      ? this.#fault('trailing', this.#offset, `${bytes.length - left} bytes after the end`)
      : this.#fault('size', this.#offset, `goes on after the ${this.#offset} bytes it should have`)
  }

  end(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#due !== 'nothing')
      throw this.#fault('truncated', this.#offset, `ends where ${this.#due} is due`)
    if (this.#narSize !== undefined && this.#offset !== this.#narSize)
      throw this.#fault('size', this.#offset, `ends here, not after ${this.#narSize} bytes`)
  }

  #left(): number {
    return (this.#narSize ?? NAR_MAX_BYTES) - this.#offset
  }

  #fault(reason: NarFault, offset: number, detail: string): NarFormatError {
    this.#failure = new NarFormatError(reason, offset, detail)
    return this.#failure
  }

  #take(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      const here = bytes.length - at
      if (this.#due === 'nothing') throw this.#fault('trailing', this.#offset, `${here} bytes after the end`)
      if (this.#phase === 'contents') {
        const skipped = Math.min(here, this.#contentsLeft)
        this.#contentsLeft -= skipped
        this.#offset += skipped
        at += skipped
        if (this.#contentsLeft === 0) this.#endContents()
        continue
      }
      const taken = Math.min(here, this.#dueBytes - this.#heldBytes)
      const piece = bytes.subarray(at, at + taken)
      at += taken
      this.#offset += taken
      if (taken === this.#dueBytes) {
        this.#takePiece(piece)
        continue
      }
      this.#held.set(piece, this.#heldBytes)
      this.#heldBytes += taken
      if (this.#heldBytes < this.#dueBytes) return
      this.#heldBytes = 0
      this.#takePiece(this.#held.subarray(0, this.#dueBytes))
    }
  }

  #takePiece(piece: Buffer): void {
    if (this.#phase === 'length') {
      this.#takeLength(piece.readUInt32LE(4) * 2 ** 32 + piece.readUInt32LE(0))
      return
    }
    const text = this.#phase === 'string' ? this.#stringBytes : 0
    for (let at = text; at < piece.length; at += 1)
      if (piece[at] !== 0)
        throw this.#fault('padding', this.#offset - piece.length + at, 'padding is not zero')
    if (this.#phase === 'contents padding') {
      this.#endFile()
      return
    }
    this.#phase = 'length'
    this.#dueBytes = NAR_LENGTH_BYTES
    this.#takeString(piece.subarray(0, text), this.#offset - piece.length)
  }

  /** Strings out of bounds are refused here, by their length alone, before a byte of them is held. */
  #takeLength(length: number): void {
    const at = this.#offset - NAR_LENGTH_BYTES
    switch (this.#due) {
      case 'contents value':
        this.#beginContents(length, at)
        return
      case 'executable value':
        if (length > 0) throw this.#fault('executable', at, `the marker must be empty, has ${length} bytes`)
        break
      case 'name value':
        if (length > NAR_MAX_NAME_BYTES)
          throw this.#fault('name', at, `name has ${length} bytes, at most ${NAR_MAX_NAME_BYTES} are allowed`)
        break
      case 'target value':
        if (length > NAR_MAX_TARGET_BYTES)
          throw this.#fault(
            'target',
            at,
            `target has ${length} bytes, at most ${NAR_MAX_TARGET_BYTES} are allowed`,
          )
        break
      default:
        if (length > NAR_MAX_TAG_BYTES) throw this.#wrongTag(`a string of ${length} bytes`, at)
    }
    if (length === 0) {
      this.#takeString(Buffer.alloc(0), this.#offset)
      return
    }
    this.#phase = 'string'
    this.#stringBytes = length
    this.#dueBytes = length + narPadding(length)
  }

  #takeString(text: Buffer, at: number): void {
    switch (this.#due) {
      case 'name value':
        this.#takeName(text, at)
        this.#due = 'node'
        break
      case 'target value': {
        const fault = narTargetFault(text)
        if (fault !== undefined) throw this.#fault('target', at, `target ${quoteBytes(text)} ${fault}`)
        this.#onEntry?.({ type: 'symlink', path: this.#path.slice(), target: new Uint8Array(text) })
        this.#due = 'node end'
        break
      }
      case 'executable value':
        this.#executable = true
        this.#due = 'contents'
        break
      default:
        this.#takeTag(text.toString('latin1'), at)
    }
  }

  #takeTag(tag: string, at: number): void {
    const only = ONLY[this.#due]
    if (only !== undefined && tag === only[0]) {
      this.#due = only[1]
      if (this.#due === 'entry or node end') this.#path.pop()
    } else if (this.#due === 'node begin' && tag === BEGIN) this.#beginNode(at)
    else if (this.#due === 'node end' && tag === END) this.#endNode()
    else if (this.#due === 'type value' && tag === 'regular') {
      this.#executable = false
      this.#due = 'executable or contents'
    } else if (this.#due === 'type value' && tag === 'symlink') this.#due = 'target'
    else if (this.#due === 'type value' && tag === 'directory') {
      this.#onEntry?.({ type: 'directory', path: this.#path.slice() })
      this.#newest.push(undefined)
      this.#due = 'entry or node end'
    } else if (this.#due === 'executable or contents' && tag === 'executable') this.#due = 'executable value'
    else if (this.#due === 'executable or contents' && tag === 'contents') this.#due = 'contents value'
    else if (this.#due === 'entry or node end' && tag === 'entry') this.#due = 'entry begin'
    else if (this.#due === 'entry or node end' && tag === END) {
      this.#newest.pop()
      this.#endNode()
    } else throw this.#wrongTag(quoteBytes(Buffer.from(tag, 'latin1')), at)
  }

  #wrongTag(got: string, at: number): NarFormatError {
    if (this.#due === 'magic') return this.#fault('magic', at, `must begin with "${NAR_MAGIC}", got ${got}`)
    return this.#fault('tag', at, `${this.#due} is due, got ${got}`)
  }

  #beginNode(at: number): void {
    if (this.#newest.length >= NAR_MAX_DEPTH)
      throw this.#fault('depth', at, `more than ${NAR_MAX_DEPTH - 1} nested directories`)
    this.#entries += 1
    if (this.#entries > NAR_MAX_ENTRIES_COUNT)
      throw this.#fault('entries', at, `more than ${NAR_MAX_ENTRIES_COUNT} entries`)
    this.#due = 'type'
  }

  #endNode(): void {
    this.#due = this.#newest.length === 0 ? 'nothing' : 'entry end'
  }

  #takeName(text: Buffer, at: number): void {
    const fault = narNameFault(text)
    if (fault !== undefined) throw this.#fault('name', at, `name ${quoteBytes(text)} ${fault}`)
    const previous = this.#newest.at(-1)
    if (previous !== undefined && Buffer.compare(previous, text) >= 0)
      throw this.#fault('order', at, `name ${quoteBytes(text)} must come after ${quoteBytes(previous)}`)
    // A copy: the chunk is the caller's, and may be used again.
    const name = new Uint8Array(text)
    this.#newest[this.#newest.length - 1] = name
    this.#path.push(name)
  }

  #beginContents(size: number, at: number): void {
    const left = this.#left()
    if (size > left)
      throw this.#fault('contents', at, `${size} bytes of contents, at most ${left} can be left`)
    this.#onEntry?.({
      type: 'regular',
      path: this.#path.slice(),
      executable: this.#executable,
      size,
      offset: this.#offset,
    })
    this.#phase = 'contents'
    this.#contentsLeft = size
    this.#dueBytes = narPadding(size)
    if (size === 0) this.#endContents()
  }

  #endContents(): void {
    this.#phase = 'contents padding'
    if (this.#dueBytes === 0) this.#endFile()
  }

  #endFile(): void {
    this.#phase = 'length'
    this.#dueBytes = NAR_LENGTH_BYTES
    this.#due = 'node end'
  }
}
