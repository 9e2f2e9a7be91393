import { CompressedDataError, UnsupportedDataError } from './errors.ts'

/** How many bytes the walk wants next: to look at, or to pass over. */
type Ask = { take: number } | { skip: number }
type Walk = Generator<Ask, void, Uint8Array>

export interface XzWalker {
  /** @throws CompressedDataError, UnsupportedDataError */
  push(bytes: Uint8Array): void
  /** @throws CompressedDataError when the last stream is not whole, or there was none */
  end(): void
}

const STREAM_MAGIC = Buffer.from('fd377a585a00', 'hex')
const FOOTER_MAGIC = Buffer.from('YZ')
/** None, CRC32 and CRC64: the others our decoder (xz-embedded) has not. Nix and nixpkgs write CRC64. */
const CHECK_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 0],
  [1, 4],
  [4, 8],
])
const FILTER_LZMA2 = 0x21

/**
 * Follows the framing of an .xz file (xz file format 1.2.1, sections 2 to 4; LZMA2 chunks as in xz-embedded) without
 * decoding it, ahead of the decoder: what the decoder cannot do is told from
 * what is malformed, each block of each concatenated stream may ask for a dictionary of 4 GiB, and the decoder does not
 * tell a cut stream from a corrupt one. Checksums are left to the decoder.
 */
export function createXzWalker(options: { maxDictionaryBytes: number }): XzWalker {
  let offset = 0
  let between = true
  let streams = 0

  function* walk(): Walk {
    for (;;) {
      between = true
      const start = yield { take: 4 }
      between = false
      // Stream padding: only after a stream, in fours.
      if (streams > 0 && start.every((byte) => byte === 0)) continue
      yield* stream(start)
      streams++
    }
  }

  function* stream(start: Uint8Array): Walk {
    const head = Buffer.concat([start, yield { take: 8 }])
    expect(head.subarray(0, 6).equals(STREAM_MAGIC), 'the magic bytes of an xz stream')
    expect(head[6] === 0 && head[7]! < 16, 'stream flags 00 00 to 00 0f')
    const checkBytes = CHECK_BYTES.get(head[7]!)
    if (checkBytes === undefined) throw unsupported(`a check of type ${head[7]}`)
    for (let blocks = 0; ; blocks++) {
      const [size] = yield { take: 1 }
      if (size === 0) {
        yield* index(blocks)
        break
      }
      blockHeader(yield { take: (size! + 1) * 4 - 1 })
      const from = offset
      yield* lzma2()
      yield* zeros(-(offset - from) & 3, 'block padding')
      yield { skip: checkBytes }
    }
    const footer = yield { take: 12 }
    expect(Buffer.from(footer.subarray(10)).equals(FOOTER_MAGIC), 'the magic bytes of an xz stream footer')
  }

  function blockHeader(header: Uint8Array): void {
    const flags = header[0]!
    expect((flags & 0x3c) === 0, 'block flags without reserved bits')
    let at = 1
    const varint = (): number => {
      let value = 0
      for (let shift = 0; shift < 49; shift += 7) {
        const byte = header[at++]
        expect(byte !== undefined, 'a whole block header')
        value += (byte! & 0x7f) * 2 ** shift
        if (byte! < 0x80) return value
      }
      throw malformed('a number below 2^49 in a block header')
    }
    if (flags & 0x40) varint()
    if (flags & 0x80) varint()
    // Delta and the branch converters, which xz-embedded was built without; Nix never writes them.
    if ((flags & 3) !== 0) throw unsupported('a filter before LZMA2')
    const id = varint()
    const propertyBytes = varint()
    expect(id === FILTER_LZMA2 && propertyBytes === 1, 'LZMA2 as the only filter')
    checkDictionary(header[at])
  }

  function checkDictionary(bits: number | undefined): void {
    expect(bits !== undefined && bits <= 40, 'a dictionary size of 0 to 40')
    const bytes = bits === 40 ? 2 ** 32 - 1 : (2 | (bits! & 1)) * 2 ** ((bits! >> 1) + 11)
    if (bytes > options.maxDictionaryBytes) {
      throw unsupported(`a dictionary of ${bytes} bytes, at most ${options.maxDictionaryBytes} are given`)
    }
  }

  function* lzma2(): Walk {
    for (;;) {
      const [control] = yield { take: 1 }
      if (control === 0) return
      if (control! >= 0x80) {
        const sizes = yield { take: 4 }
        const propertyBytes = control! >= 0xc0 ? 1 : 0
        yield { skip: sizes[2]! * 256 + sizes[3]! + 1 + propertyBytes }
      } else {
        expect(control! <= 2, 'an LZMA2 chunk')
        const size = yield { take: 2 }
        yield { skip: size[0]! * 256 + size[1]! + 1 }
      }
    }
  }

  function* index(blocks: number): Walk {
    const from = offset - 1
    const records = yield* varint()
    expect(records === blocks, `an index of ${blocks} blocks`)
    for (let left = records * 2; left > 0; left--) yield* varint()
    yield* zeros(-(offset - from) & 3, 'index padding')
    yield { skip: 4 }
  }

  function* varint(): Generator<Ask, number, Uint8Array> {
    let value = 0
    for (let shift = 0; shift < 63; shift += 7) {
      const [byte] = yield { take: 1 }
      value += (byte! & 0x7f) * 2 ** shift
      if (byte! < 0x80) return value
    }
    throw malformed('a number of at most nine bytes')
  }

  function* zeros(count: number, what: string): Walk {
    if (count === 0) return
    const padding = yield { take: count }
    expect(
      padding.every((byte) => byte === 0),
      `zeros as ${what}`,
    )
  }

  function expect(condition: boolean, what: string): void {
    if (!condition) throw malformed(what)
  }

  function unsupported(what: string): UnsupportedDataError {
    return new UnsupportedDataError(`xz: asked for before offset ${offset}: ${what}`)
  }

  function malformed(what: string): CompressedDataError {
    return new CompressedDataError(`xz: expected ${what} before offset ${offset}`)
  }

  const steps = walk()
  let ask = steps.next().value as Ask
  let taken: Uint8Array[] = []
  let have = 0

  const advance = (bytes: Uint8Array): void => {
    ask = steps.next(bytes).value as Ask
    taken = []
    have = 0
  }

  const wantsNothing = (): boolean => 'skip' in ask && ask.skip === 0

  return {
    push(bytes) {
      let at = 0
      while (at < bytes.length) {
        const want = 'take' in ask ? ask.take : ask.skip
        const piece = bytes.subarray(at, at + want - have)
        at += piece.length
        have += piece.length
        offset += piece.length
        // What is taken is at most a block header of 1 KiB; a copy, since the caller owns its chunk.
        if ('take' in ask) taken.push(Uint8Array.from(piece))
        if (have === want) advance(taken.length === 1 ? taken[0]! : Buffer.concat(taken))
        // A check of no bytes (xz --check=none) asks to skip nothing.
        while (wantsNothing()) advance(new Uint8Array(0))
      }
    },
    end() {
      if (streams > 0 && between && have === 0) return
      throw new CompressedDataError(`xz: the stream ends too early, at offset ${offset}`, { truncated: true })
    },
  }
}
