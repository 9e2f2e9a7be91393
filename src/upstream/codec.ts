import type { Duplex, Readable, Writable } from 'node:stream'
import type { CallOptions } from '../source.ts'

/** A decoder: compressed bytes in, plain bytes out. */
export interface Codec {
  readonly input: Writable
  readonly output: Readable
  /** Settles when the decoder has ended, whether anybody read its output or not; rejects with what its streams cannot tell. */
  readonly finished: Promise<void>
  close(): void
}

export function fromDuplex(duplex: Duplex): Codec {
  return { input: duplex, output: duplex, finished: Promise.resolve(), close: () => void duplex.destroy() }
}

export interface RunningCodec {
  /** Feeds one chunk and gives all that comes out of it; false at the end: the decoder ended before it took all. */
  write(chunk: Uint8Array): AsyncGenerator<Uint8Array, boolean>
  /** Tells the decoder that there is no more, and gives the rest. */
  finish(): AsyncGenerator<Uint8Array, void>
  close(): void
}

/**
 * Drives a decoder in lockstep: the next chunk is asked for when everything that the last one gave has been taken.
 * So nothing queues up in between, and whoever reads slowly slows down the socket.
 */
export function runCodec(codec: Codec, { signal }: CallOptions): RunningCodec {
  const { input, output } = codec
  let failure: Error | undefined
  let ended = false
  let wake = (): void => {}
  const fail = (error: Error): void => {
    failure ??= error
    wake()
  }
  // The indirection: wake is another function at each wait.
  const notify = (): void => wake()

  input.on('error', fail)
  output.on('error', fail)
  output.on('readable', notify)
  output.once('end', () => {
    ended = true
    wake()
  })
  output.once('close', () => {
    if (!ended) fail(new Error('the decoder closed before its end'))
  })
  codec.finished.catch(fail)
  signal.addEventListener('abort', notify, { once: true })

  async function* drain(done: () => boolean): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      signal.throwIfAborted()
      if (failure !== undefined) {
        // A dead child first shows as EPIPE; why it died is told here.
        await codec.finished
        throw failure
      }
      const piece = output.read() as Uint8Array | null
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
      if (ended) return false
      let taken = false
      input.write(chunk, (error) => {
        taken = !error
        wake()
      })
      yield* drain(() => taken || ended)
      if (!taken) await codec.finished
      return taken
    },
    async *finish() {
      input.end()
      yield* drain(() => ended)
      await codec.finished
    },
    close() {
      signal.removeEventListener('abort', notify)
      codec.close()
    },
  }
}
