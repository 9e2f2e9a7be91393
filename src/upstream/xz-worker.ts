/**
 * A thread that decodes xz, one stream after the other. In a thread, because the decoder computes without a pause, and
 * because xz-decompress has one lock for all streams of a thread: one that waits for its input would stop the others.
 *
 * Does something when it is loaded, because that is how a worker starts; in the main thread it does nothing.
 */
import { messageOf } from '../log.ts'
import { isMainThread, parentPort, type MessagePort } from 'node:worker_threads'
import xz from 'xz-decompress'
import { XZ_PIECES_AHEAD_COUNT } from '../limits.ts'
import { createBell } from './bell.ts'

/** `credit`: one more piece may be sent; both sides begin with XZ_PIECES_AHEAD_COUNT of them. */
export type ToXzWorker =
  | { readonly type: 'input'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'end' }
  | { readonly type: 'credit' }

/** After `done` the next stream may come, after `failure` nothing. */
export type FromXzWorker =
  | { readonly type: 'output'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'done' }
  | { readonly type: 'failure'; readonly message: string; readonly corrupt: boolean }
  | { readonly type: 'credit' }

if (!isMainThread && parentPort !== null) void serve(parentPort)

async function serve(port: MessagePort): Promise<void> {
  /** `undefined` is the end of a stream. */
  const inputs: (Uint8Array<ArrayBuffer> | undefined)[] = []
  // Never set back: credit for the last pieces of a stream may come when the next one has begun.
  let credit = XZ_PIECES_AHEAD_COUNT
  const input = createBell()
  const output = createBell()

  port.on('message', (message: ToXzWorker) => {
    switch (message.type) {
      case 'input':
        inputs.push(message.bytes)
        input.ring()
        return
      case 'end':
        inputs.push(undefined)
        input.ring()
        return
      case 'credit':
        credit++
        output.ring()
        return
      default:
        message satisfies never
    }
  })
  const post = (message: FromXzWorker, transfer: ArrayBuffer[] = []): void => {
    port.postMessage(message, transfer)
  }
  const inputThere = (): Promise<void> => input.until(() => inputs.length > 0)
  const compressed = (): ReadableStream<Uint8Array> =>
    new ReadableStream(
      {
        async pull(controller) {
          await inputThere()
          const bytes = inputs.shift()
          if (bytes === undefined) return controller.close()
          post({ type: 'credit' })
          controller.enqueue(bytes)
        },
      },
      { highWaterMark: 0 },
    )

  for (;;) {
    await inputThere()
    try {
      for await (const bytes of new xz.XzReadableStream(compressed())) {
        if (bytes.length === 0) continue
        await output.until(() => credit > 0)
        credit--
        // A copy out of the WASM memory, in a buffer of its own.
        post({ type: 'output', bytes: bytes as Uint8Array<ArrayBuffer> }, [bytes.buffer as ArrayBuffer])
      }
      post({ type: 'done' })
    } catch (error) {
      post({ type: 'failure', ...failureOf(error) })
      return
    }
  }
}

/** Results of xz-embedded (xz.h, enum xz_ret) that say something about the data; the rest is our trouble. */
const CORRUPT: Readonly<Record<string, string>> = {
  5: 'not in the xz format',
  7: 'the data is corrupt',
  8: 'the data is corrupt or ends too early',
}

function failureOf(error: unknown): { message: string; corrupt: boolean } {
  const message = messageOf(error)
  const corrupt = CORRUPT[/error code (\d+)$/.exec(message)?.[1] ?? '']
  return { message: corrupt ?? message, corrupt: corrupt !== undefined }
}
