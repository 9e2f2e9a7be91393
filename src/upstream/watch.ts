import { SourceFaultError, type CallOptions, type SourceId } from '../source.ts'
import { DeadlineError } from './errors.ts'

export interface Watch {
  /** Aborts with the caller's signal and when the time is up. */
  readonly signal: AbortSignal
  /** Gives the chunks on, and the time between two of them `stallMs`. */
  chunks(source: AsyncIterable<Uint8Array>, stallMs: number, onFirst?: () => void): AsyncGenerator<Uint8Array>
  /** Bounds the whole as well: a trickle has no stalls. */
  whole(ms: number): void
  /** What to throw for what was caught: the caller's reason, ours, or a fault of the source. */
  reason(error: unknown): unknown
  /** Ends the request and its timer, whatever state they are in. */
  stop(): void
}

/**
 * A deadline on waiting for others, never on whoever reads: the timer runs only while a chunk is being waited for.
 * The first one, with connecting and the headers, must be there after `firstMs`.
 */
export function createWatch(id: SourceId, url: URL, firstMs: number, options: CallOptions): Watch {
  const own = new AbortController()
  const signal = AbortSignal.any([options.signal, own.signal])
  let timer: NodeJS.Timeout | undefined
  let last: NodeJS.Timeout | undefined
  const after = (ms: number, what: string): NodeJS.Timeout =>
    setTimeout(() => {
      const cause = new DeadlineError(`${ms} ms`)
      own.abort(new SourceFaultError(id, `${url.href}: ${what} within ${ms} ms`, { cause }))
    }, ms)
  const start = (ms: number, what: string): void => {
    timer = after(ms, what)
  }
  start(firstMs, 'no answer')
  return {
    signal,
    async *chunks(source, stallMs, onFirst) {
      let isFirst = true
      for await (const chunk of source) {
        clearTimeout(timer)
        if (isFirst) onFirst?.()
        isFirst = false
        yield chunk
        start(stallMs, 'no further byte')
      }
      clearTimeout(timer)
    },
    whole(ms) {
      last = after(ms, 'no end')
    },
    reason(error) {
      const cut = [options.signal, own.signal].find(({ aborted }) => aborted)
      return cut === undefined ? error : (cut.reason as unknown)
    },
    stop() {
      clearTimeout(timer)
      clearTimeout(last)
      own.abort()
    },
  }
}
