import type { Worker } from 'node:worker_threads'
import { XZ_MAX_DICTIONARY_BYTES, XZ_PIECE_BYTES, XZ_PIECES_AHEAD_COUNT } from '../limits.ts'
import type { CallOptions } from '../source.ts'
import { createBell } from './bell.ts'
import { CompressedDataError } from './errors.ts'
import type { XzThreads } from './xz-threads.ts'
import { createXzWalker } from './xz-walker.ts'
import type { FromXzWorker, ToXzWorker } from './xz-worker.ts'

export interface XzOptions extends CallOptions {
  xzThreads: XzThreads
}

/**
 * Decodes in a thread, which is asked for when the first chunk is there and looks like xz. Feeding goes on while the
 * reader is at work, XZ_PIECES_AHEAD_COUNT pieces ahead on either side and no further.
 *
 * @throws CompressedDataError, UnsupportedDataError, and whatever `chunks` throws, as it is and after all that could
 * still be decoded
 */
export async function* decodeXz(
  chunks: AsyncIterable<Uint8Array>,
  options: XzOptions,
): AsyncGenerator<Uint8Array, void> {
  const { signal, xzThreads } = options
  const walked = walk(chunks)
  const first = await walked.next()
  // Never: a walk without a chunk ends with an error.
  if (first.done) return
  const thread = await xzThreads.lend(options).catch(async (error: unknown) => {
    await walked.return()
    throw error
  })
  const stream = openStream(thread.worker)
  const onAbort = (): void => stream.fail(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  let unread: { error: unknown } | undefined
  let whole = false

  const feed = async (): Promise<void> => {
    try {
      let open = await stream.send(first.value)
      while (open) {
        const { value, done } = await walked.next()
        if (done) break
        open = await stream.send(value)
      }
    } catch (error) {
      unread = { error }
    }
    stream.end()
    // Its reader is gone, or it has ended: nobody is left to be told.
    await walked.return().catch(() => {})
  }

  try {
    signal.throwIfAborted()
    // Not awaited below: it may wait for a chunk that never comes.
    void feed()
    for (;;) {
      const piece = await stream.receive()
      signal.throwIfAborted()
      if (piece === undefined) break
      yield piece
    }
    whole = unread === undefined
  } catch (error) {
    signal.throwIfAborted()
    throw unread === undefined ? error : unread.error
  } finally {
    signal.removeEventListener('abort', onAbort)
    stream.close()
    if (whole) thread.giveBack()
    else thread.discard()
  }
  if (unread !== undefined) throw unread.error
}

async function* walk(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const walker = createXzWalker({ maxDictionaryBytes: XZ_MAX_DICTIONARY_BYTES })
  for await (const chunk of chunks) {
    walker.push(chunk)
    yield chunk
  }
  walker.end()
}

interface XzStream {
  /** Resolves when all of it is on its way; to false when the stream is over. */
  send(chunk: Uint8Array): Promise<boolean>
  end(): void
  /** `undefined` at the end. */
  receive(): Promise<Uint8Array | undefined>
  fail(error: unknown): void
  /** Lets go of the worker. */
  close(): void
}

/** This side of the worker's protocol, for one stream. */
function openStream(worker: Worker): XzStream {
  const outputs: Uint8Array[] = []
  let credit = XZ_PIECES_AHEAD_COUNT
  let failure: { error: unknown } | undefined
  let ended = false
  let done = false
  let closed = false
  const sender = createBell()
  const receiver = createBell()
  const wake = (): void => {
    sender.ring()
    receiver.ring()
  }
  const fail = (error: unknown): void => {
    failure ??= { error }
    wake()
  }
  const over = (): boolean => closed || done || failure !== undefined

  const onMessage = (message: FromXzWorker): void => {
    switch (message.type) {
      case 'output':
        outputs.push(message.bytes)
        receiver.ring()
        return
      case 'credit':
        credit++
        sender.ring()
        return
      case 'done':
        // The walker has not seen what was left over then.
        if (!ended) return fail(new CompressedDataError('xz: bytes after the end of the compressed stream'))
        done = true
        wake()
        return
      case 'failure':
        fail(
          message.corrupt
            ? new CompressedDataError(`xz: ${message.message}`)
            : new Error(`the xz decoder failed: ${message.message}`),
        )
        return
      default:
        message satisfies never
    }
  }
  const onExit = (): void => fail(new Error('the thread of the xz decoder ended'))
  worker.on('message', onMessage).on('error', fail).on('exit', onExit)
  const post = (message: ToXzWorker, transfer: ArrayBuffer[] = []): void => {
    worker.postMessage(message, transfer)
  }

  return {
    async send(chunk) {
      for (let at = 0; at < chunk.length; at += XZ_PIECE_BYTES) {
        await sender.until(() => credit > 0 || over())
        if (over()) return false
        credit--
        // A copy, always: the chunk may share its buffer with others, and is its owner's.
        const bytes = new Uint8Array(chunk.subarray(at, at + XZ_PIECE_BYTES))
        post({ type: 'input', bytes }, [bytes.buffer])
      }
      return !over()
    },
    end() {
      if (over()) return
      ended = true
      post({ type: 'end' })
    },
    async receive() {
      await receiver.until(() => outputs.length > 0 || over())
      const piece = outputs.shift()
      if (piece !== undefined) post({ type: 'credit' })
      else if (failure !== undefined) throw failure.error
      return piece
    },
    fail,
    close() {
      closed = true
      worker.off('message', onMessage).off('error', fail).off('exit', onExit)
      wake()
    },
  }
}
