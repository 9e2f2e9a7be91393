import { Worker } from 'node:worker_threads'
import {
  XZ_THREAD_HEAP_BYTES,
  XZ_THREAD_IDLE_MS,
  XZ_THREADS_IDLE_COUNT,
  XZ_THREADS_MAX_COUNT,
} from '../limits.ts'
import type { CallOptions } from '../source.ts'
import { createSlots } from './slots.ts'

/** Threads that decode xz, each one stream at a time. Nothing of it keeps the process alive but a thread that is lent. */
export interface XzThreads {
  /** Waits its turn while the most there may be are lent. */
  lend(options: CallOptions): Promise<XzThread>
}

export interface XzThread {
  readonly worker: Worker
  /** It has decoded its stream to the end, and may be lent again. */
  giveBack(): void
  /** Whatever it is at, it ends: the way back for one whose stream failed or was given up. */
  discard(): void
}

/** Others for tests. */
interface XzThreadsLimits {
  maxCount: number
  idleCount: number
  idleMs: number
}

const LIMITS: XzThreadsLimits = {
  maxCount: XZ_THREADS_MAX_COUNT,
  idleCount: XZ_THREADS_IDLE_COUNT,
  idleMs: XZ_THREAD_IDLE_MS,
}

interface Idle {
  readonly worker: Worker
  readonly timer: NodeJS.Timeout
}

export function createXzThreads(limits: Partial<XzThreadsLimits> = {}): XzThreads {
  const { maxCount, idleCount, idleMs } = { ...LIMITS, ...limits }
  const idle: Idle[] = []
  const slots = createSlots(maxCount)

  const takeIdle = (): Worker | undefined => {
    const last = idle.pop()
    if (last === undefined) return undefined
    clearTimeout(last.timer)
    last.worker.off('exit', forget)
    last.worker.ref()
    return last.worker
  }

  /** An idle thread that dies all the same is not lent. */
  function forget(this: Worker): void {
    const at = idle.findIndex(({ worker }) => worker === this)
    if (at !== -1) clearTimeout(idle.splice(at, 1)[0]?.timer)
  }

  const rest = (worker: Worker): void => {
    worker.unref()
    worker.on('exit', forget)
    const timer = setTimeout(() => void worker.terminate(), idleMs)
    timer.unref()
    idle.push({ worker, timer })
  }

  return {
    async lend(options) {
      await slots.take(options)
      let worker: Worker
      try {
        worker = takeIdle() ?? startWorker()
      } catch (error) {
        slots.free()
        throw error
      }
      return {
        worker,
        giveBack() {
          if (idle.length < idleCount) rest(worker)
          else void worker.terminate()
          slots.free()
        },
        discard() {
          // Only then: threads on their way out have their memory still.
          void worker.terminate().then(() => slots.free())
        },
      }
    },
  }
}

function startWorker(): Worker {
  const worker = new Worker(
    // Run from source in the repository, from dist/ once installed.
    new URL(import.meta.url.endsWith('.ts') ? './xz-worker.ts' : './xz-worker.js', import.meta.url),
    // The heap of JavaScript alone; the WASM memory is the dictionary, which the walker judges.
    { name: 'xz', resourceLimits: { maxOldGenerationSizeMb: XZ_THREAD_HEAP_BYTES / 2 ** 20 } },
  )
  // Without any listener it would end the process. Whoever is at work has one more, and `exit` follows for the idle.
  worker.on('error', () => {})
  return worker
}
