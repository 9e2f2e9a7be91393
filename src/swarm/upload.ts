/**
 * What others get from us, counted, and kept to `share.upload` over all doors together: the HTTP listener in the main thread
 * and bitswap in the worker. Both reserve time on one line, whose end is a number in memory that they share; whoever is first
 * takes the next piece of it. Each thread has one reservation at a time, for the one whose turn it is there, so that who
 * gives up while waiting has taken nothing, and when both have something to send they take turns.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { UPLOAD_BURST_MS } from '../limits.ts'
import type { CallOptions } from '../source.ts'
import { createTurns } from './turns.ts'

/** Can be handed to another thread. */
export interface SharedLine {
  /** Absent: as fast as it goes. */
  readonly bytesPerSecond: number | undefined
  readonly cells: SharedArrayBuffer
}

export interface Upload {
  /**
   * Resolves when the bytes may leave; undefined when they may at once. Who waits takes turns by `who`.
   *
   * @throws the signal's reason
   */
  take(bytes: number, who: string, options: CallOptions): Promise<void> | undefined
  /** Milliseconds that somebody who comes now would wait at least. */
  backlogMs(): number
  /** All bytes that were let go, by both threads. */
  total(): number
}

/** End of the line, microseconds of the clock. */
const LINE_END = 0
const TOTAL_BYTES = 1

export function createSharedLine(bytesPerSecond: number | undefined): SharedLine {
  return { bytesPerSecond, cells: new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT) }
}

interface Waiting {
  readonly bytes: number
  readonly go: () => void
  gone: boolean
}

/** @param deps.clock milliseconds, monotonic, the same in both threads (performance.now() is not) */
export function createUpload(
  line: SharedLine,
  deps: { clock?: () => number; wait?: (ms: number) => Promise<unknown> } = {},
): Upload {
  const { clock = machineClock, wait = (ms) => sleep(ms, undefined, { ref: false }) } = deps
  const { bytesPerSecond } = line
  const cells = new BigInt64Array(line.cells)
  const turns = createTurns<Waiting>()
  let waitingBytes = 0
  let serving = false

  const count = (bytes: number): void => void Atomics.add(cells, TOTAL_BYTES, BigInt(bytes))
  const now = (): bigint => BigInt(Math.floor(clock() * 1000))

  /** @returns milliseconds until the line is free for them; they have their place on it from now on */
  const reserve = (bytes: number, rate: number): number => {
    const length = lengthOf(bytes, rate)
    for (;;) {
      const end = Atomics.load(cells, LINE_END)
      const present = now()
      const earliest = present - BigInt(UPLOAD_BURST_MS * 1000)
      const start = end > earliest ? end : earliest
      if (Atomics.compareExchange(cells, LINE_END, end, start + length) !== end) continue
      return start > present ? Number(start - present) / 1000 : 0
    }
  }

  const serve = async (rate: number): Promise<void> => {
    serving = true
    for (let next = turns.shift(); next !== undefined; next = turns.shift()) {
      waitingBytes -= next.bytes
      const ms = reserve(next.bytes, rate)
      if (ms > 0) await wait(ms)
      if (next.gone) Atomics.sub(cells, LINE_END, lengthOf(next.bytes, rate))
      else next.go()
    }
    serving = false
  }

  const queued = async (bytes: number, who: string, rate: number, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted()
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        waiting.gone = true
        if (turns.remove(who, waiting)) waitingBytes -= bytes
        reject(signal.reason as Error)
      }
      const go = (): void => {
        signal.removeEventListener('abort', leave)
        count(bytes)
        resolve()
      }
      const waiting: Waiting = { bytes, go, gone: false }
      signal.addEventListener('abort', leave, { once: true })
      turns.push(who, waiting)
      waitingBytes += bytes
      if (!serving) void serve(rate)
    })
  }

  return {
    take(bytes, who, { signal }) {
      if (bytesPerSecond !== undefined) return queued(bytes, who, bytesPerSecond, signal)
      count(bytes)
      return undefined
    },
    backlogMs() {
      if (bytesPerSecond === undefined) return 0
      const line = Math.max(0, Number(Atomics.load(cells, LINE_END) - now()) / 1000)
      return line + (waitingBytes / bytesPerSecond) * 1000
    },
    total: () => Number(Atomics.load(cells, TOTAL_BYTES)),
  }
}

/** On the line, microseconds. */
function lengthOf(bytes: number, rate: number): bigint {
  return BigInt(Math.ceil((bytes / rate) * 1_000_000))
}

/** Monotonic since the machine's start, the same in all threads. */
function machineClock(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
