import { NAR_MAGIC, narStrings } from '../nix/nar-encode.ts'
import { quote } from '../nix/quote.ts'
import type { Compression } from '../nix/narinfo.ts'
import {
  SourceFaultError,
  SourceLieError,
  SourceMissError,
  type CallOptions,
  type Cost,
  type NarRef,
  type OpenOptions,
  type SourceId,
  type StreamSource,
} from '../source.ts'
import { decompress, maxCompressedBytes } from './decompress.ts'
import { CompressedDataError, PageError } from './errors.ts'
import type { Host, Visit } from './host.ts'
import { sourceError } from './source-error.ts'
import type { Transport, TransportBody } from './transport.ts'
import { createWatch, type Watch } from './watch.ts'
import type { XzThreads } from './xz-threads.ts'

export interface NarStreamConfig {
  id: SourceId
  cost: Cost
  url: URL
  compression: Compression
  /** On top of what the host's answers so far suggest. */
  firstByteMs: number
  stallMs: number
  priority: number
}

/**
 * The bytes of one NAR out of one file of a cache. A file that is not compressed is asked for from where it is
 * needed; any other is decoded from its start, since nothing else can be done with it.
 */
export function createNarStream(
  deps: { transport: Transport; host: Host; xzThreads: XzThreads },
  config: NarStreamConfig,
): StreamSource {
  const { transport, host, xzThreads } = deps
  const { id, cost, url, compression, firstByteMs, stallMs, priority } = config

  function errorOf(error: unknown, watch: Watch, options: CallOptions): unknown {
    const reason = watch.reason(error)
    if (reason instanceof CompressedDataError && !reason.truncated) {
      return new SourceLieError(id, `${url.href}: ${reason.message}`, { cause: reason })
    }
    return options.signal.aborted ? reason : sourceError(id, url, reason)
  }

  async function ask(visit: Visit, from: number, options: OpenOptions): Promise<Asked> {
    const watch = createWatch(id, url, Math.min(firstByteMs, visit.deadlineMs), options)
    try {
      // What is decoded is not what came.
      const buffers = compression === 'none' ? options.buffers : undefined
      const body = await transport.get(url, { signal: watch.signal, size: 'bulk', from, buffers })
      if (body === undefined)
        throw new SourceMissError(id, `${url.href}: there is a narinfo, and no such NAR`)
      return { body, watch }
    } catch (error) {
      const reason = errorOf(error, watch, options)
      watch.stop()
      throw reason
    }
  }

  /** A page with status 200 is known for what it is while nothing of it has gone out. But Nix asks nobody's type. */
  function checkMagic(piece: Uint8Array, position: number): void {
    const expected = MAGIC.subarray(position, position + piece.length)
    if (expected.equals(piece.subarray(0, expected.length))) return
    const message = `expected a NAR, got a page that begins ${quote(latin1(piece))}`
    throw new SourceLieError(id, `${url.href}: ${message}`, { cause: new PageError(message) })
  }

  async function* open(nar: NarRef, from: number, options: OpenOptions): AsyncGenerator<Uint8Array> {
    const { narSize } = nar
    if (from >= narSize) return
    const wanted = compression === 'none' ? from : 0
    const { value, visit } = await host.visit({ id, size: 'bulk', signal: options.signal }, (one) =>
      ask(one, wanted, options),
    )
    const { body, watch } = value
    const { signal } = watch
    try {
      let position = body.offset
      const isPage = /^text\/html\b/i.test(body.contentType ?? '')
      const maxBytes = narSize - position
      const chunks = watch.chunks(body.chunks, stallMs, () => visit.answered())
      const packed =
        body.encoding === undefined
          ? chunks
          : decompress(body.encoding, chunks, { maxBytes: maxCompressedBytes(maxBytes), signal, xzThreads })
      const plain = decompress(compression, packed, { maxBytes, signal, xzThreads })
      for await (const piece of plain) {
        if (isPage) checkMagic(piece, position)
        const skipped = Math.max(0, from - position)
        position += piece.length
        if (skipped < piece.length) yield skipped === 0 ? piece : piece.subarray(skipped)
      }
      if (position < narSize) {
        throw new SourceFaultError(id, `${url.href}: expected ${narSize} bytes of NAR, got ${position}`)
      }
    } catch (error) {
      const reason = errorOf(error, watch, options)
      if (!options.signal.aborted) visit.failed(reason)
      throw reason
    } finally {
      watch.stop()
      visit.leave()
    }
  }

  return { id, cost, priority, open }
}

const MAGIC = Buffer.from(narStrings(NAR_MAGIC))

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, 40)).toString('latin1')
}

interface Asked {
  readonly body: TransportBody
  readonly watch: Watch
}
