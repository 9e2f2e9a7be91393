import { promisify } from 'node:util'
import { constants, zstdDecompress } from 'node:zlib'
import { CODED_WINDOW_LOG, DECODED_SLACK_BYTES } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { CallOptions, OldBlock } from '../source.ts'
import { DCZ_HEADER_BYTES, isDczHeader, isPlainDictionary } from './dcz.ts'

/** The block that a difference was to be told from is not to be had here, after all. */
export class OldBlockGoneError extends Error {
  override readonly name = 'OldBlockGoneError'
}

/** What came is not one zstd frame of a block. */
export class CodedBlockError extends Error {
  override readonly name = 'CodedBlockError'
  /** It ends in the middle: perhaps it was cut on its way. */
  readonly truncated: boolean
  constructor(message: string, truncated: boolean, options?: ErrorOptions) {
    super(message, options)
    this.truncated = truncated
  }
}

const decompress = promisify(zstdDecompress)

/**
 * Exactly one frame, in the pool. No more than `maxBytes` come out of it, however few went in.
 *
 * @throws CodedBlockError
 */
export async function decodeBlock(
  coded: Uint8Array,
  maxBytes: number,
  dictionary?: Uint8Array,
): Promise<Uint8Array> {
  try {
    return await decompress(coded, {
      maxOutputLength: maxBytes,
      // More than the block, else Node takes a second buffer to see that nothing follows.
      chunkSize: maxBytes + DECODED_SLACK_BYTES,
      rejectGarbageAfterEnd: true,
      params: { [constants.ZSTD_d_windowLogMax]: CODED_WINDOW_LOG },
      ...(dictionary === undefined ? {} : { dictionary }),
    })
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
    throw new CodedBlockError(reasonOf(code, cause, maxBytes), code === 'Z_BUF_ERROR', { cause })
  }
}

/**
 * A body of `dcz` (RFC 9842): the header names the dictionary that was asked for, one frame follows.
 *
 * @throws CodedBlockError, OldBlockGoneError
 */
export async function decodeDifference(
  body: Uint8Array,
  maxBytes: number,
  old: OldBlock,
  options: CallOptions,
): Promise<Uint8Array> {
  if (body.length < DCZ_HEADER_BYTES) {
    throw new CodedBlockError(`dcz: expected ${DCZ_HEADER_BYTES} bytes of header, got ${body.length}`, true)
  }
  if (!isDczHeader(body.subarray(0, DCZ_HEADER_BYTES), old.digest)) {
    throw new CodedBlockError('dcz: expected the header of the dictionary that was named, got another', false)
  }
  const lent = await old.lend(options)
  if (lent === undefined) throw new OldBlockGoneError('the older block is not here any more')
  try {
    if (!isPlainDictionary(lent.bytes))
      throw new OldBlockGoneError('the older block looks like a trained dictionary')
    return await decodeBlock(body.subarray(DCZ_HEADER_BYTES), maxBytes, lent.bytes)
  } finally {
    lent.release()
  }
}

function reasonOf(code: unknown, cause: unknown, maxBytes: number): string {
  switch (code) {
    case 'ERR_BUFFER_TOO_LARGE':
      return `zstd: expected at most ${maxBytes} bytes out of it, got more`
    case 'ERR_TRAILING_JUNK_AFTER_STREAM_END':
      return 'zstd: expected one frame, got bytes after it'
    case 'Z_BUF_ERROR':
      return 'zstd: the frame ends in the middle'
    default:
      return `zstd: ${messageOf(cause)}`
  }
}
