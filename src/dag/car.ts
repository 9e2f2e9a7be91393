/**
 * CAR v1, as `ipfs dag export` and trustless gateways write it: a header with the roots, then blocks, each with its
 * length and its CID before it. https://ipld.io/specs/transport/car/carv1/
 *
 * The reader takes no CAR v2, no null padding and no CID but those of cid.ts, and checks the hash of each block. It does
 * not know which blocks a DAG needs: whoever walks it must notice one that is missing.
 */
import type { CID } from 'multiformats/cid'
import { BLOCK_MAX_BYTES, CAR_HEADER_MAX_BYTES } from '../limits.ts'
import { blockMatches, CID_BYTES, CidError, decodeCid } from './cid.ts'
import { readVarint, VARINT_MAX_BYTES, varintBytes, VarintError, writeVarint } from './varint.ts'

export interface CarBlock {
  readonly cid: CID
  readonly bytes: Uint8Array
}

export interface Car {
  readonly roots: readonly CID[]
  /** Once. Ending it early ends the chunks; a Car whose blocks are never asked for leaves its chunks open. */
  readonly blocks: AsyncIterable<CarBlock>
}

export type CarReason =
  /** The chunks end inside the header or a block: a gateway that failed cuts its answer, so the rest is elsewhere. */
  | 'truncated'
  /** Not the canonical header of a CAR v1. */
  | 'header'
  /** A length that is no canonical varint, too small for a CID or above BLOCK_MAX_BYTES. */
  | 'length'
  | 'cid'
  /** The bytes are not the block that their CID names. */
  | 'digest'

export class CarError extends Error {
  override readonly name = 'CarError'
  readonly reason: CarReason
  constructor(reason: CarReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

/** CBOR of `{ roots: […], version: 1 }` in parts: the only header there is, but for its CIDs. */
const HEADER_START = Buffer.from('\u00a2\u0065roots', 'latin1')
const HEADER_END = Buffer.from('\u0067version\u0001', 'latin1')
/** Tag 42, a byte string of 37: a CID behind the multibase prefix 0 of binary. */
const CBOR_CID = Buffer.from([0xd8, 0x2a, 0x58, CID_BYTES + 1, 0])
const CBOR_ARRAY = 0x80
/** What an array's length takes in the byte of its type. */
const CBOR_SMALL_MAX = 23

/** Length and header. One root, since that is all a NAR has. */
function carHeader(root: CID): Uint8Array {
  return withLength(encodeHeader([root]))
}

/** What stands before a block's bytes: their length with the CID's, and the CID. */
function carBlockHeader(cid: CID, byteLength: number): Uint8Array {
  const length = CID_BYTES + byteLength
  const bytes = new Uint8Array(varintBytes(length) + CID_BYTES)
  bytes.set(cid.bytes, writeVarint(bytes, 0, length))
  return bytes
}

/** Header and bytes of each block come apart, so that no leaf is copied. Blocks are written in the order they come. */
export async function* writeCar(
  root: CID,
  blocks: AsyncIterable<CarBlock> | Iterable<CarBlock>,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield carHeader(root)
  for await (const { cid, bytes } of blocks) {
    yield carBlockHeader(cid, bytes.length)
    yield bytes
  }
}

/**
 * Reads the header at once and the blocks as they are asked for, one block in memory. A block's bytes may be part of the
 * chunk they came in.
 *
 * @throws CarError, and so do the blocks; whatever the chunks throw
 */
export async function readCar(chunks: AsyncIterable<Uint8Array>): Promise<Car> {
  const input = createInput(chunks)
  try {
    const length = await input.length(CAR_HEADER_MAX_BYTES, 'the header')
    if (length === undefined) throw new CarError('truncated', 'expected a CAR, got no bytes')
    const roots = decodeHeader(await input.take(length, 'the header'))
    return { roots, blocks: readBlocks(input) }
  } catch (error) {
    await input.close()
    throw error
  }
}
async function* readBlocks(input: ByteInput): AsyncGenerator<CarBlock, void, undefined> {
  try {
    for (;;) {
      const start = input.offset()
      const where = `the block at offset ${start}`
      const length = await input.length(CID_BYTES + BLOCK_MAX_BYTES, where)
      if (length === undefined) return
      if (length < CID_BYTES) {
        throw new CarError('length', `${where} is of ${length} bytes, expected at least a CID's ${CID_BYTES}`)
      }
      const section = await input.take(length, where)
      const cid = decodeBlockCid(section.subarray(0, CID_BYTES), where)
      const bytes = section.subarray(CID_BYTES)
      if (!blockMatches(cid, bytes)) {
        throw new CarError('digest', `${where}: its ${bytes.length} bytes are not those of ${cid.toString()}`)
      }
      yield { cid, bytes }
    }
  } finally {
    await input.close()
  }
}

function decodeBlockCid(bytes: Uint8Array, where: string): CID {
  try {
    return decodeCid(bytes)
  } catch (cause) {
    if (!(cause instanceof CidError)) throw cause
    throw new CarError('cid', `${where}: ${cause.message}`, { cause })
  }
}

function encodeHeader(roots: readonly CID[]): Uint8Array {
  const cids = roots.flatMap((root) => [CBOR_CID, root.bytes])
  return Buffer.concat([HEADER_START, Buffer.of(CBOR_ARRAY + roots.length), ...cids, HEADER_END])
}

/** Takes the CIDs from where they must be and compares all the rest: no CBOR but the canonical one is ever read. */
function decodeHeader(bytes: Uint8Array): CID[] {
  const first = HEADER_START.length + 1
  const stride = CBOR_CID.length + CID_BYTES
  const count = (bytes.length - first - HEADER_END.length) / stride
  if (!Number.isInteger(count) || count < 1 || count > CBOR_SMALL_MAX) {
    throw new CarError(
      'header',
      `expected the header of a CAR v1 with 1 to ${CBOR_SMALL_MAX} roots, got ${bytes.length} bytes that cannot be one`,
    )
  }
  const roots: CID[] = []
  for (let i = 0; i < count; i++) {
    const start = first + i * stride + CBOR_CID.length
    try {
      roots.push(decodeCid(bytes.subarray(start, start + CID_BYTES)))
    } catch (cause) {
      if (!(cause instanceof CidError)) throw cause
      throw new CarError('header', `root ${i} of the CAR: ${cause.message}`, { cause })
    }
  }
  if (Buffer.compare(encodeHeader(roots), bytes) !== 0) {
    throw new CarError(
      'header',
      'expected the canonical header of a CAR v1: roots and version 1, nothing else',
    )
  }
  return roots
}

function withLength(bytes: Uint8Array): Uint8Array {
  const framed = new Uint8Array(varintBytes(bytes.length) + bytes.length)
  framed.set(bytes, writeVarint(framed, 0, bytes.length))
  return framed
}

interface ByteInput {
  /** Bytes taken so far. */
  offset(): number
  /** A varint of at most `max`, or undefined where the chunks end. */
  length(max: number, what: string): Promise<number | undefined>
  /** Exactly `length` bytes. */
  take(length: number, what: string): Promise<Uint8Array>
  close(): Promise<void>
}

function createInput(chunks: AsyncIterable<Uint8Array>): ByteInput {
  const iterator = chunks[Symbol.asyncIterator]()
  let chunk: Uint8Array = new Uint8Array()
  let at = 0
  let taken = 0

  /** False at the end of the chunks. */
  async function more(): Promise<boolean> {
    while (at === chunk.length) {
      const next = await iterator.next()
      if (next.done === true) return false
      chunk = next.value
      at = 0
    }
    return true
  }

  return {
    offset: () => taken,

    async length(max, what) {
      const digits = new Uint8Array(VARINT_MAX_BYTES)
      let used = 0
      while (used < VARINT_MAX_BYTES) {
        if (!(await more())) {
          if (used === 0) return undefined
          throw new CarError('truncated', `the CAR ends in the length of ${what}`)
        }
        const byte = chunk[at++] ?? 0
        taken++
        digits[used++] = byte
        if (byte < 0x80) break
      }
      let value: number
      try {
        value = readVarint(digits.subarray(0, used), 0).value
      } catch (cause) {
        if (!(cause instanceof VarintError)) throw cause
        throw new CarError('length', `the length of ${what}: ${cause.message}`, { cause })
      }
      if (value > max) throw new CarError('length', `${what} is of ${value} bytes, expected at most ${max}`)
      return value
    },

    async take(length, what) {
      if (chunk.length - at >= length) {
        const bytes = chunk.subarray(at, at + length)
        at += length
        taken += length
        return bytes
      }
      const bytes = new Uint8Array(length)
      let filled = 0
      while (filled < length) {
        if (!(await more())) {
          throw new CarError('truncated', `the CAR ends in ${what}: ${filled} of its ${length} bytes came`)
        }
        const piece = chunk.subarray(at, at + length - filled)
        bytes.set(piece, filled)
        at += piece.length
        taken += piece.length
        filled += piece.length
      }
      return bytes
    },

    async close() {
      await iterator.return?.()
    },
  }
}
