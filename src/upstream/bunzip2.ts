import { CompressedDataError } from './errors.ts'

/**
 * A strict bzip2 decoder with back-pressure. Ours, because unbzip2-stream 1.4.3 has none: 722 bytes of it are 1 GB of
 * zeros, which it puts into memory whether anybody reads them or not, before a cap could bite; and the compression of
 * a NAR is what any upstream says it is. Only old NARs of cache.nixos.org are bzip2, so it need not be fast; a block
 * of 900 kB is decoded at a stretch.
 *
 * There is no specification but the source of bzip2 1.0 (decompress.c, huffman.c); names are of there.
 */

const BLOCK_MAGIC = 0x314159265359
const END_MAGIC = 0x177245385090
const MAX_CODE_BITS = 20
const GROUP_SYMBOLS = 50
const RUN_A = 0
const RUN_B = 1
/** More than any block of 900,000 symbols takes at 20 bits each, with its tables. */
const BLOCK_MAX_BYTES = 2_600_000
const PIECE_BYTES = 256 * 1024

/** CRC-32 as bzip2 has it: most significant bit first, unlike zlib's. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1
  return crc >>> 0
})

/** @throws CompressedDataError */
export async function* bunzip2(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const bits = createBitReader()
  const steps = decodeStreams(bits)
  let waiting: Uint8Array[] = []
  let waitingBytes = 0
  for await (const chunk of chunks) {
    waiting.push(chunk)
    waitingBytes += chunk.length
    // In large steps: what is left over of one is copied in front of the next.
    if (waitingBytes < BLOCK_MAX_BYTES) continue
    bits.refill(waiting)
    waiting = []
    waitingBytes = 0
    while (bits.left() >= BLOCK_MAX_BYTES) {
      const { value, done } = steps.next()
      if (done) return
      if (value !== undefined) yield value
    }
  }
  bits.refill(waiting)
  bits.close()
  for (const piece of steps) if (piece !== undefined) yield piece
}

interface BitReader {
  /** `count` bits, at most 24, the first one read as the most significant. */
  read(count: number): number
  align(): void
  /** Whole bytes not yet touched. */
  left(): number
  refill(chunks: readonly Uint8Array[]): void
  /** There will be no more: a stream may end here. */
  close(): void
  atEnd(): boolean
}

function createBitReader(): BitReader {
  let bytes: Uint8Array = new Uint8Array(0)
  let at = 0
  let held = 0
  let heldBits = 0
  let closed = false
  return {
    read(count) {
      while (heldBits < count) {
        if (at === bytes.length) {
          throw new CompressedDataError('bzip2: the stream ends too early', { truncated: true })
        }
        held = (held << 8) | bytes[at++]!
        heldBits += 8
      }
      heldBits -= count
      return (held >>> heldBits) & ((1 << count) - 1)
    },
    align() {
      heldBits -= heldBits & 7
    },
    left: () => bytes.length - at,
    refill(chunks) {
      bytes = Buffer.concat([bytes.subarray(at), ...chunks])
      at = 0
    },
    close() {
      closed = true
    },
    atEnd: () => closed && at === bytes.length && heldBits < 8,
  }
}

/** Yields pieces of output, and undefined between blocks: a good moment to refill. */
function* decodeStreams(bits: BitReader): Generator<Uint8Array | undefined, void> {
  let table = new Uint32Array(0)
  do {
    if (bits.read(24) !== 0x425a68) throw malformed("the magic bytes 'BZh'")
    const level = bits.read(8) - 0x30
    if (level < 1 || level > 9) throw malformed('a block size of 1 to 9')
    const blockBytes = level * 100_000
    let streamCrc = 0
    for (;;) {
      const magic = bits.read(24) * 2 ** 24 + bits.read(24)
      const crc = read32(bits)
      if (magic === END_MAGIC) {
        if (crc !== streamCrc) throw malformed('the checksum of the stream')
        break
      }
      if (magic !== BLOCK_MAGIC) throw malformed('the magic bytes of a block')
      // Not for a stream without blocks: a million of those would be a million tables.
      if (table.length !== blockBytes) table = new Uint32Array(blockBytes)
      const { origin, count } = readBlock(bits, table)
      const blockCrc = yield* writeBlock(table, origin, count)
      if (blockCrc !== crc) throw malformed('the checksum of the block')
      streamCrc = (((streamCrc << 1) | (streamCrc >>> 31)) ^ crc) >>> 0
      yield undefined
    }
    bits.align()
    yield undefined
  } while (!bits.atEnd())
}

/** Fills the low bytes of `table` with the last column, and their high 24 bits with the way back through it. */
function readBlock(bits: BitReader, table: Uint32Array): { origin: number; count: number } {
  if (bits.read(1) !== 0) throw malformed('a block that is not randomised')
  const origin = bits.read(24)
  const symbols = readSymbolMap(bits)
  const groupCount = bits.read(3)
  if (groupCount < 2 || groupCount > 6) throw malformed('2 to 6 tables')
  const selectors = readSelectors(bits, groupCount)
  const groups = Array.from({ length: groupCount }, () => readCodes(bits, symbols.length + 2))

  const endOfBlock = symbols.length + 1
  const counts = new Uint32Array(256)
  let count = 0
  let run = 0
  let runUnit = 1
  const endRun = (): void => {
    const byte = symbols[0]!
    if (count + run > table.length) throw malformed('a block within its size')
    table.fill(byte, count, count + run)
    counts[byte]! += run
    count += run
    run = 0
    runUnit = 1
  }
  for (let selector = 0, left = 0, group = groups[0]!; ; left--) {
    if (left === 0) {
      if (selector === selectors.length) throw malformed('a selector for each 50 symbols')
      group = groups[selectors[selector++]!]!
      left = GROUP_SYMBOLS
    }
    const symbol = readCode(bits, group)
    if (symbol === RUN_A || symbol === RUN_B) {
      run += runUnit << symbol
      // Before the unit can overflow.
      if (run > table.length) throw malformed('a run within the block')
      runUnit *= 2
      continue
    }
    if (run > 0) endRun()
    if (symbol === endOfBlock) break
    if (count === table.length) throw malformed('a block within its size')
    const byte = symbols[symbol - 1]!
    symbols.copyWithin(1, 0, symbol - 1)
    symbols[0] = byte
    table[count++] = byte
    counts[byte]!++
  }
  if (origin >= count) throw malformed('an origin within the block')

  for (let byte = 0, sum = 0; byte < 256; byte++) {
    const next = sum + counts[byte]!
    counts[byte] = sum
    sum = next
  }
  for (let i = 0; i < count; i++) {
    const to = counts[table[i]! & 0xff]!++
    table[to] = (table[to]! | (i << 8)) >>> 0
  }
  return { origin, count }
}

/** The bytes that occur, in order: the start of the move-to-front list. */
function readSymbolMap(bits: BitReader): Uint8Array {
  const rows = bits.read(16)
  const symbols: number[] = []
  for (let row = 0; row < 16; row++) {
    if (!(rows & (0x8000 >> row))) continue
    const columns = bits.read(16)
    for (let column = 0; column < 16; column++)
      if (columns & (0x8000 >> column)) symbols.push(row * 16 + column)
  }
  if (symbols.length === 0) throw malformed('at least one byte in use')
  return Uint8Array.from(symbols)
}

function readSelectors(bits: BitReader, groupCount: number): Uint8Array {
  const selectors = new Uint8Array(bits.read(15))
  if (selectors.length === 0) throw malformed('at least one selector')
  const order = [0, 1, 2, 3, 4, 5].slice(0, groupCount)
  for (let i = 0; i < selectors.length; i++) {
    let index = 0
    while (bits.read(1) !== 0) if (++index >= groupCount) throw malformed('a selector of a table there is')
    const [group] = order.splice(index, 1)
    order.unshift(group!)
    selectors[i] = group!
  }
  return selectors
}

/** A canonical Huffman code: for each length the last code of that length, and where its symbols begin. */
interface Codes {
  readonly minBits: number
  readonly limits: Int32Array
  readonly bases: Int32Array
  readonly symbols: Uint16Array
}

function readCodes(bits: BitReader, symbolCount: number): Codes {
  const lengths = new Uint8Array(symbolCount)
  let length = bits.read(5)
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    for (;;) {
      if (length < 1 || length > MAX_CODE_BITS) throw malformed('codes of 1 to 20 bits')
      if (bits.read(1) === 0) break
      length += bits.read(1) === 0 ? 1 : -1
    }
    lengths[symbol] = length
  }
  const limits = new Int32Array(MAX_CODE_BITS + 1).fill(-1)
  const bases = new Int32Array(MAX_CODE_BITS + 1)
  const symbols = new Uint16Array(symbolCount)
  let code = 0
  let placed = 0
  for (let size = 1; size <= MAX_CODE_BITS; size++) {
    bases[size] = code - placed
    for (let symbol = 0; symbol < symbolCount; symbol++) {
      if (lengths[symbol] !== size) continue
      symbols[placed++] = symbol
      code++
    }
    if (code > 2 ** size) throw malformed('a prefix code')
    limits[size] = code - 1
    code *= 2
  }
  return { minBits: Math.min(...lengths), limits, bases, symbols }
}

function readCode(bits: BitReader, { minBits, limits, bases, symbols }: Codes): number {
  let code = bits.read(minBits)
  for (let size = minBits; size <= MAX_CODE_BITS; size++) {
    if (code <= limits[size]!) return symbols[code - bases[size]!]!
    code = (code << 1) | bits.read(1)
  }
  throw malformed('a code of the table')
}

/** Walks the block backwards and undoes the first run-length coding. Returns the CRC of what came out. */
function* writeBlock(table: Uint32Array, origin: number, count: number): Generator<Uint8Array, number> {
  let crc = 0xffffffff
  let position = table[origin]! >>> 8
  let repeats = 0
  let last = -1
  let out = new Uint8Array(PIECE_BYTES)
  let length = 0
  for (let left = count; left > 0; left--) {
    const entry = table[position]!
    const byte = entry & 0xff
    position = entry >>> 8
    // Four equal bytes are followed by how often the byte comes once more.
    const copies = repeats === 4 ? byte : 1
    if (repeats === 4) repeats = 0
    else {
      repeats = byte === last ? repeats + 1 : 1
      last = byte
    }
    if (length + copies > PIECE_BYTES) {
      yield out.subarray(0, length)
      out = new Uint8Array(PIECE_BYTES)
      length = 0
    }
    for (let copy = 0; copy < copies; copy++) {
      out[length++] = last
      crc = ((crc << 8) ^ CRC_TABLE[((crc >>> 24) ^ last) & 0xff]!) >>> 0
    }
    if (repeats === 0) last = -1
  }
  if (length > 0) yield out.subarray(0, length)
  return ~crc >>> 0
}

function read32(bits: BitReader): number {
  return bits.read(16) * 65_536 + bits.read(16)
}

function malformed(what: string): CompressedDataError {
  return new CompressedDataError(`bzip2: expected ${what}`)
}
