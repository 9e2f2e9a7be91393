import type { Duplex } from 'node:stream'
import type { CallOptions } from '../source.ts'

export interface RunningCodec {
  /** Feeds one chunk and gives all that comes out of it; nothing is taken any more once the decoder has ended. */
  write(chunk: Uint8Array): AsyncGenerator<Uint8Array, void>
  /** Tells the decoder that there is no more, and gives the rest. */
  finish(): AsyncGenerator<Uint8Array, void>
  close(): void
}

/**
 * Drives a decoder in lockstep: the next chunk is asked for when everything that the last one gave has been taken.
 * So nothing queues up in between, and whoever reads slowly slows down the socket.
 */
export function runCodec(decoder: Duplex, { signal }: CallOptions): RunningCodec {
  let failure: Error | undefined
  let ended = false
  let wake = (): void => {}
  const fail = (error: Error): void => {
    failure ??= error
    wake()
  }
  // The indirection: wake is another function at each wait.
  const notify = (): void => wake()

  decoder.on('error', fail)
  decoder.on('readable', notify)
  decoder.once('end', () => {
    ended = true
    wake()
  })
  decoder.once('close', () => {
    if (!ended) fail(new Error('the decoder closed before its end'))
  })
  signal.addEventListener('abort', notify, { once: true })

  async function* drain(done: () => boolean): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      signal.throwIfAborted()
      if (failure !== undefined) throw failure
      const piece = decoder.read() as Uint8Array | null
      if (piece !== null) yield piece
      else if (done()) return
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  }

  return {
    async *write(chunk) {
      if (ended) return
      let taken = false
      decoder.write(chunk, (error) => {
        taken = !error
        wake()
      })
      yield* drain(() => taken || ended)
    },
    async *finish() {
      decoder.end()
      yield* drain(() => ended)
    },
    close() {
      signal.removeEventListener('abort', notify)
      decoder.destroy()
    },
  }
}
