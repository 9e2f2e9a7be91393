/**
 * One GET over undici, whose body comes in few large pieces. undici's own body gives 64 KiB at a time, and joins what waits
 * by copying it: each piece of a NAR costs 60 us on its way to disk and client, whatever its size (docs/adr/026).
 */
import type { Dispatcher } from 'undici'
import type { CallOptions, PieceBuffers } from '../source.ts'
import { createPieceQueue, type PieceQueue } from './piece-queue.ts'

export interface Received {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** To be iterated once; who leaves it early ends the request. */
  readonly body: AsyncIterable<Uint8Array>
  /** Ends the request, unless its body has come: the connection is lost. */
  close(): void
}

export interface ReceiveOptions extends CallOptions {
  headers: Record<string, string>
  /** Most of a piece; three of them may be in memory. */
  pieceBytes: number
  /** As for `StreamSource.open`. */
  buffers?: PieceBuffers | undefined
}

/** Resolves with the head. @throws the signal's reason, at once; whatever undici has */
export async function receive(
  dispatcher: Dispatcher,
  url: URL,
  { headers, pieceBytes, buffers, signal }: ReceiveOptions,
): Promise<Received> {
  const { promise, resolve, reject } = Promise.withResolvers<Received>()
  let controller: Dispatcher.DispatchController | undefined
  let pieces: PieceQueue | undefined
  let over = false

  const finish = (): void => {
    over = true
    signal.removeEventListener('abort', onAbort)
  }
  const fail = (reason: Error): void => {
    if (over) return
    finish()
    reject(reason)
    pieces?.fail(reason)
  }
  const cut = (reason: Error): void => {
    if (over) return
    fail(reason)
    controller?.abort(reason)
  }
  const onAbort = (): void => cut(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
  const close = (): void => cut(new Error('nobody reads the body any more'))

  async function* read(queue: PieceQueue): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const piece = await queue.next()
        signal.throwIfAborted()
        if (piece === undefined) return
        if (controller?.paused && !queue.isFull) controller.resume()
        yield piece
      }
    } finally {
      close()
    }
  }

  signal.throwIfAborted()
  signal.addEventListener('abort', onAbort, { once: true })
  dispatcher.dispatch(
    { origin: url.origin, path: url.pathname + url.search, method: 'GET', headers },
    {
      onRequestStart(started) {
        controller = started
        // Given up while it waited for a connection.
        if (over) started.abort(new Error('nobody waits for the answer any more'))
      },
      onResponseStart(_, statusCode, answered) {
        // After an interim one comes another.
        if (statusCode < 200) return
        const length = Number(answered['content-length'])
        pieces = createPieceQueue(length > 0 ? Math.min(length, pieceBytes) : pieceBytes, buffers)
        resolve({ statusCode, headers: answered, body: read(pieces), close })
      },
      onResponseData(started, chunk) {
        pieces?.add(chunk)
        if (pieces?.isFull) started.pause()
      },
      onResponseEnd() {
        finish()
        pieces?.end()
      },
      onResponseError(_, error) {
        fail(error)
      },
    },
  )
  return promise
}
