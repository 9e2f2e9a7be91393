/**
 * The UnixFS message in an interior node's Data, decoded strictly and only as far as a profile file has it: a type and
 * sizes. https://specs.ipfs.tech/unixfs/#dag-pb-data-field-protobuf
 */
import { UNIXFS_FILE } from './node-encoder.ts'
import { readVarint, VarintError } from './varint.ts'

export type UnixfsReason =
  /** Not the message at all: cut off, wrong wire type, a field twice, none that must be there. */
  | 'unixfs'
  /** A directory, symlink, HAMT shard, metadata or raw node. */
  | 'type'
  /** File bytes in an interior node. */
  | 'inner-data'
  /** hashType, fanout, mode, mtime or a field that nobody knows. */
  | 'extra-field'

export class UnixfsError extends Error {
  override readonly name = 'UnixfsError'
  readonly reason: UnixfsReason
  constructor(reason: UnixfsReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

export interface UnixfsFile {
  /** Bytes of the file below the node. */
  fileSize: number
  /** Bytes below each link, in order. */
  blockSizes: number[]
}

const VARINT = 0
const LENGTH_DELIMITED = 2

/** @throws UnixfsError */
export function decodeUnixfsFile(bytes: Uint8Array): UnixfsFile {
  let type: number | undefined
  let fileSize: number | undefined
  const blockSizes: number[] = []
  let at = 0

  function next(): number {
    try {
      const { value, end } = readVarint(bytes, at)
      at = end
      return value
    } catch (cause) {
      if (!(cause instanceof VarintError)) throw cause
      throw new UnixfsError('unixfs', `its UnixFS Data cannot be read: ${cause.message}`, { cause })
    }
  }

  while (at < bytes.length) {
    const start = at
    const tag = next()
    const field = Math.floor(tag / 8)
    const wire = tag % 8
    if (field === 2 && wire === LENGTH_DELIMITED) {
      throw new UnixfsError('inner-data', `it has file bytes of its own (UnixFS Data, offset ${start})`)
    }
    if (field === 0 || field > 4) {
      throw new UnixfsError('extra-field', `its UnixFS field ${field} has no place there (offset ${start})`)
    }
    if (wire !== VARINT) {
      throw new UnixfsError(
        'unixfs',
        `its UnixFS field ${field} is of wire type ${wire}, expected 0 (offset ${start})`,
      )
    }
    const value = next()
    if (field === 4) {
      blockSizes.push(value)
    } else if (field === 3) {
      if (fileSize !== undefined)
        throw new UnixfsError('unixfs', `it has a second filesize (offset ${start})`)
      fileSize = value
    } else {
      if (type !== undefined) throw new UnixfsError('unixfs', `it has a second UnixFS type (offset ${start})`)
      type = value
      if (type !== UNIXFS_FILE) {
        throw new UnixfsError('type', `expected UnixFS type ${UNIXFS_FILE} (file), got ${type}`)
      }
    }
  }
  if (type === undefined) throw new UnixfsError('unixfs', 'it has no UnixFS type')
  if (fileSize === undefined) throw new UnixfsError('unixfs', 'it has no filesize')
  return { fileSize, blockSizes }
}
