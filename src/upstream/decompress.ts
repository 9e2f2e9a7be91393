import { messageOf } from '../log.ts'
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createZstdDecompress,
  type BrotliDecompress,
  type Gunzip,
  type ZstdDecompress,
} from 'node:zlib'
import {
  COMPRESSED_MAX_EMPTY_FRAMES,
  COMPRESSED_SLACK_BYTES,
  DECODED_PIECE_BYTES,
  ZSTD_MAX_WINDOW_LOG,
} from '../limits.ts'
import type { Compression } from '../nix/narinfo.ts'
import type { CallOptions } from '../source.ts'
import { bunzip2 } from './bunzip2.ts'
import { runCodec, type RunningCodec } from './codec.ts'
import { CompressedDataError } from './errors.ts'
import { decodeXz, type XzOptions } from './xz.ts'

export type Chunks = AsyncIterable<Uint8Array>

export interface DecompressOptions extends XzOptions {
  /** More bytes than this out of it are an error, however few went in. */
  maxBytes: number
}

/**
 * Takes exactly one of Nix's compressions off a stream (nix-protocol A6). Concatenated streams are one, as for
 * libarchive; whatever else follows the end is an error, and so is a missing end.
 * @throws CompressedDataError, UnsupportedDataError
 */
export async function* decompress(
  compression: Compression,
  chunks: Chunks,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array, void> {
  const { maxBytes } = options
  let bytes = 0
  for await (const piece of decoded(compression, chunks, options)) {
    bytes += piece.length
    if (bytes > maxBytes) {
      throw new CompressedDataError(`${compression}: more than the ${maxBytes} bytes that were announced`)
    }
    yield piece
  }
}

function decoded(compression: Compression, chunks: Chunks, options: DecompressOptions): Chunks {
  const input = bounded(compression, chunks, options.maxBytes)
  switch (compression) {
    case 'none':
      return chunks
    case 'xz':
      return decodeXz(input, options)
    case 'bzip2':
      return bunzip2(input)
    case 'gzip':
      return decodeZlib('gzip', () => createGunzip({ chunkSize: DECODED_PIECE_BYTES }), input, options)
    case 'zstd':
      return decodeZlib('zstd', createZstd, input, options)
    case 'br':
      return decodeZlib(
        'br',
        () => createBrotliDecompress({ chunkSize: DECODED_PIECE_BYTES }),
        input,
        options,
      )
    default:
      throw new CompressedDataError(
        `expected a known compression, got ${String(compression satisfies never)}`,
      )
  }
}

/** Without this, empty frames or stored blocks could be sent for ever: the cap on the output never bites. */
async function* bounded(
  compression: Compression,
  chunks: Chunks,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  const most = maxCompressedBytes(maxBytes)
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > most) {
      throw new CompressedDataError(
        `${compression}: more than ${most} bytes cannot be ${maxBytes} bytes compressed`,
      )
    }
    yield chunk
  }
}

/** However badly `bytes` were compressed. */
export function maxCompressedBytes(bytes: number): number {
  return bytes + Math.ceil(bytes / 8) + COMPRESSED_SLACK_BYTES
}

type ZlibDecoder = Gunzip | ZstdDecompress | BrotliDecompress

/**
 * Node's decoders end without an error at a frame that ends inside a chunk, and drop what follows: garbage, or for
 * zstd the next frame. `bytesWritten` tells how much was really taken.
 */
async function* decodeZlib(
  compression: 'gzip' | 'zstd' | 'br',
  create: () => ZlibDecoder,
  chunks: Chunks,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array> {
  let decoder = create()
  let codec: RunningCodec = runCodec(decoder, options)
  let output = 0
  let emptyFrames = 0
  const counted = async function* (
    pieces: AsyncGenerator<Uint8Array, void>,
  ): AsyncGenerator<Uint8Array, void> {
    for await (const piece of judged(compression, pieces, options)) {
      output += piece.length
      yield piece
    }
  }
  try {
    for await (const chunk of chunks) {
      let rest = chunk
      while (rest.length > 0) {
        const before = decoder.bytesWritten
        yield* counted(codec.write(rest))
        rest = rest.subarray(decoder.bytesWritten - before)
        if (rest.length === 0) break
        if (compression !== 'zstd') throw trailing(compression)
        emptyFrames = output === 0 ? emptyFrames + 1 : 0
        if (emptyFrames > COMPRESSED_MAX_EMPTY_FRAMES) throw trailing(compression)
        codec.close()
        decoder = create()
        codec = runCodec(decoder, options)
        output = 0
      }
    }
    yield* counted(codec.finish())
  } finally {
    codec.close()
  }
}

function createZstd(): ZstdDecompress {
  return createZstdDecompress({
    chunkSize: DECODED_PIECE_BYTES,
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_MAX_WINDOW_LOG },
  })
}

/** Errors of the decoder, as opposed to those of the stream it is fed from, are the data's fault. */
async function* judged(
  compression: Compression,
  pieces: AsyncGenerator<Uint8Array, void>,
  { signal }: CallOptions,
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* pieces
  } catch (cause) {
    if (signal.aborted) throw cause
    const reason = messageOf(cause)
    throw new CompressedDataError(`${compression}: ${reason}`, { cause, truncated: isTruncation(cause) })
  }
}

/** How zlib calls an input that ends in the middle. */
function isTruncation(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'Z_BUF_ERROR'
}

function trailing(compression: Compression): CompressedDataError {
  return new CompressedDataError(`${compression}: bytes after the end of the compressed stream`)
}
