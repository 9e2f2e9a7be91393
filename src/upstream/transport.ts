import type { Compression } from '../nix/narinfo.ts'
import type { CallOptions, PieceBuffers } from '../source.ts'
import type { HashPart } from '../nix/store-path.ts'

/** `bulk` for NARs: they have connections of their own, so that no narinfo queues up behind them. */
export type RequestSize = 'small' | 'bulk'

export interface TransportOptions extends CallOptions {
  size: RequestSize
  /** As for `StreamSource.open`. */
  buffers?: PieceBuffers | undefined
  /** First byte wanted; what comes may start earlier. */
  from?: number
}

export interface TransportBody {
  /** Where in the file the bytes start: 0 or `from`. */
  readonly offset: number
  /** What `chunks` are packed in on the way (Content-Encoding), over and above what the file itself is. */
  readonly encoding?: Exclude<Compression, 'none'>
  readonly contentType?: string
  /** To be iterated once, or its signal aborted: it holds a connection or a file. */
  readonly chunks: AsyncIterable<Uint8Array>
}

/** How the files of one cache are read. `url` is always below the cache's own (`locate`). */
export interface Transport {
  /**
   * `undefined` when the cache says that it has no such file.
   * @throws SourceFaultError, SourceLieError
   */
  get(url: URL, options: TransportOptions): Promise<TransportBody | undefined>
  /** Hash parts of the narinfos there are, where that can be known. */
  list?(): AsyncIterable<HashPart>
  close(): Promise<void>
}
