import type { Compression } from '../nix/narinfo.ts'
import {
  COST,
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  type CallOptions,
  type NarRef,
  type SourceId,
  type StreamSource,
} from '../source.ts'
import { decompress, maxCompressedBytes } from './decompress.ts'
import { CompressedDataError } from './errors.ts'
import { sourceError } from './source-error.ts'
import type { Transport } from './transport.ts'
import { createWatch } from './watch.ts'
import type { XzThreads } from './xz-threads.ts'

export interface NarStreamConfig {
  id: SourceId
  url: URL
  compression: Compression
  firstByteMs: number
  stallMs: number
}

/**
 * The bytes of one NAR out of one file of a cache. A file that is not compressed is asked for from where it is
 * needed; any other is decoded from its start, since nothing else can be done with it.
 */
export function createNarStream(
  deps: { transport: Transport; xzThreads: XzThreads },
  config: NarStreamConfig,
): StreamSource {
  const { transport, xzThreads } = deps
  const { id, url, compression, firstByteMs, stallMs } = config

  async function* open(nar: NarRef, from: number, options: CallOptions): AsyncGenerator<Uint8Array> {
    const { narSize } = nar
    if (from >= narSize) return
    const watch = createWatch(id, url, firstByteMs, options)
    const { signal } = watch
    try {
      const wanted = compression === 'none' ? from : 0
      const body = await transport.get(url, { signal, size: 'bulk', from: wanted })
      if (body === undefined)
        throw new SourceMissError(id, `${url.href}: there is a narinfo, and no such NAR`)
      let position = body.offset
      const maxBytes = narSize - position
      const chunks = watch.chunks(body.chunks, stallMs)
      const packed =
        body.encoding === undefined
          ? chunks
          : decompress(body.encoding, chunks, { maxBytes: maxCompressedBytes(maxBytes), signal, xzThreads })
      const plain = decompress(compression, packed, { maxBytes, signal, xzThreads })
      for await (const piece of plain) {
        const skipped = Math.max(0, from - position)
        position += piece.length
        if (skipped < piece.length) yield skipped === 0 ? piece : piece.subarray(skipped)
      }
      if (position < narSize) {
        throw new SourceFaultError(id, `${url.href}: expected ${narSize} bytes of NAR, got ${position}`)
      }
    } catch (error) {
      const reason = watch.reason(error)
      if (reason instanceof CompressedDataError && !reason.truncated) {
        throw new SourceLieError(id, `${url.href}: ${reason.message}`, { cause: reason })
      }
      throw options.signal.aborted ? reason : sourceError(id, url, reason)
    } finally {
      watch.stop()
    }
  }

  return { id, cost: COST.upstream, open }
}
