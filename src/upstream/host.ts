/**
 * What all upstreams on one host share: how many requests are under way, whether it is asked at all, how long it may
 * take. Time waited for a slot is ours, and is not held against the host.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  BREAKER_FAILURES_COUNT,
  UPSTREAM_BULK_CONNECTIONS_COUNT,
  UPSTREAM_FIRST_BYTE_CEILING_MS,
  UPSTREAM_FIRST_BYTE_FLOOR_MS,
  UPSTREAM_NARINFO_CEILING_MS,
  UPSTREAM_NARINFO_FLOOR_MS,
  UPSTREAM_RETRY_MS,
  UPSTREAM_SMALL_CONNECTIONS_COUNT,
  UPSTREAM_TRIES_COUNT,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { messageOf } from '../log.ts'
import { SourceFaultError, SourceRestingError } from '../source.ts'
import type { CallOptions, SourceId } from '../source.ts'
import { abortable } from './abortable.ts'
import { createBreaker, type Attempt } from './breaker.ts'
import { DeadlineError, StatusError } from './errors.ts'
import { createPatience } from './patience.ts'
import { RedirectError } from './redirect.ts'
import { createSlots } from './slots.ts'
import type { RequestSize } from './transport.ts'

/** A request under way. */
export interface Visit {
  /** Of the whole of a small file, of the first byte of a NAR. */
  readonly deadlineMs: number
  /** It gave what it has to give, be that a 404. The first verdict counts. */
  answered(): void
  /** @returns whether the same may go well at once */
  failed(error: unknown): boolean
  /** At the end, whatever the end; without a verdict before there is none. */
  leave(): void
  /** Finds out whether the host answers again. */
  readonly isProbe: boolean
}

export interface HostStatus {
  /** Not asked for so many milliseconds; absent while it is asked. */
  readonly restsMs?: number
  /** Of the last request that failed, until one succeeds. */
  readonly lastError?: string
}

export interface Host {
  /**
   * Asks, when it is our turn, and once more after a failure that was quick. A host that was silent is asked by its first
   * visitor after a rest, who does not wait for it: that may take as long again, and a miss is due now.
   *
   * @param ask by the signal that it is given
   * @returns what `ask` gave, and the visit, which is still open
   * @throws SourceRestingError at once while the host is left alone; what `ask` threw
   */
  visit<T>(
    request: { id: SourceId; size: RequestSize } & CallOptions,
    ask: (visit: Visit, options: CallOptions) => Promise<T>,
  ): Promise<{ value: T; visit: Visit }>
  status(): HostStatus
  /** Not asked for small files now. */
  readonly rests: boolean
}

/** How much is held against a host. */
interface Leniency {
  /** Of one request, the last one included. */
  readonly tries: number
  /** In a row, after which it is left alone. */
  readonly failures: number
}

export interface HostDeps {
  log: Log
  /** Monotonic, milliseconds. */
  clock: () => number
  /** [0, 1) */
  random: () => number
}

/** @param name origin of a URL, or the URL of a folder */
function createHost(name: string, deps: HostDeps, { tries: maxTries, failures }: Leniency): Host {
  const { clock, random, log } = deps
  let verdict = Promise.withResolvers<void>()
  const restings = new Map<SourceId, SourceRestingError>()
  /** Its last failure was that nothing came: to wait for the verdict of a probe may take as long again. */
  let isSilent = false
  const breaker = createBreaker({
    clock,
    random,
    failures,
    onOpen(reason, restMs) {
      restings.clear()
      log.warn(
        { host: name },
        `${name} is left alone, first for ${(restMs / 1000).toFixed(1)} s, until it answers: ${reason}`,
      )
    },
    onClose: () => log.info({ host: name }, `${name} answers again`),
    onVerdict() {
      restings.clear()
      verdict.resolve()
      verdict = Promise.withResolvers()
    },
  })
  const sizes = {
    small: {
      slots: createSlots(UPSTREAM_SMALL_CONNECTIONS_COUNT),
      patience: createPatience({
        floorMs: UPSTREAM_NARINFO_FLOOR_MS,
        ceilingMs: UPSTREAM_NARINFO_CEILING_MS,
      }),
    },
    bulk: {
      slots: createSlots(UPSTREAM_BULK_CONNECTIONS_COUNT),
      patience: createPatience({
        floorMs: UPSTREAM_FIRST_BYTE_FLOOR_MS,
        ceilingMs: UPSTREAM_FIRST_BYTE_CEILING_MS,
      }),
    },
  }
  // In a folder anything but silence is about one file.
  const isFolder = name.startsWith('file:')

  const rests = (): boolean => (breaker.restsMs ?? 0) > 0

  /** Made once and thrown often: most of what a miss costs then would be stack traces. */
  function resting(id: SourceId): SourceRestingError {
    let error = restings.get(id)
    if (error === undefined) {
      error = new SourceRestingError(id, `${name} is left alone for now: ${breaker.reason ?? 'it failed'}`)
      restings.set(id, error)
    }
    return error
  }

  async function enter({
    id,
    size,
    signal,
  }: { id: SourceId; size: RequestSize } & CallOptions): Promise<Visit> {
    const { slots } = sizes[size]
    // Nobody queues for a host that is not asked.
    if (rests() && size === 'small') throw resting(id)
    await slots.take({ signal })
    try {
      for (;;) {
        // A NAR that was promised: a resting host is better than none.
        const attempt = breaker.begin(size === 'bulk')
        if (attempt === 'resting') throw resting(id)
        if (attempt === 'probed') {
          if (isSilent && size === 'small') throw resting(id)
          await abortable(verdict.promise, signal)
          continue
        }
        return visitOf(attempt, size, breaker.restsMs !== undefined)
      }
    } catch (error) {
      slots.free()
      throw error
    }
  }

  function visitOf(attempt: Attempt, size: RequestSize, isProbe: boolean): Visit {
    const { slots, patience } = sizes[size]
    const begun = clock()
    let isJudged = false
    const answered = (): void => {
      if (isJudged) return
      isJudged = true
      patience.took(clock() - begun)
      attempt.succeeded()
    }
    return {
      isProbe,
      deadlineMs: patience.deadlineMs,
      answered,
      failed(error) {
        if (isJudged) return false
        const failure = judge(error)
        if (failure === undefined) {
          answered()
          return false
        }
        isJudged = true
        isSilent = failure.slow
        if (failure.slow) patience.took(clock() - begun)
        attempt.failed(failure)
        return !failure.slow && breaker.restsMs === undefined
      },
      leave() {
        isJudged = true
        attempt.dropped()
        slots.free()
      },
    }
  }

  /** By a signal of its own: its visitor has left. */
  async function probe(
    visit: Visit,
    ask: (visit: Visit, options: CallOptions) => Promise<unknown>,
  ): Promise<void> {
    try {
      await ask(visit, { signal: AbortSignal.timeout(2 * visit.deadlineMs) })
      visit.answered()
    } catch (error) {
      visit.failed(error)
    } finally {
      visit.leave()
    }
  }

  /** What is held against the host; `undefined` for an answer that we cannot use. */
  function judge(error: unknown): { reason: string; slow: boolean; restMs: number } | undefined {
    if (!(error instanceof SourceFaultError)) return undefined
    const { cause } = error
    const slow = cause instanceof DeadlineError
    if (isFolder && !slow) return undefined
    if (cause instanceof RedirectError) return undefined
    if (cause instanceof StatusError && !cause.isOverload) return undefined
    const restMs = cause instanceof StatusError ? cause.retryAfterMs : 0
    return { reason: messageOf(error), slow, restMs }
  }

  return {
    async visit(request, ask) {
      const { signal } = request
      let before: unknown
      for (let tries = 1; ; tries++) {
        const visit = await enter(request).catch((error: unknown) => {
          // What it was left alone for meanwhile says more than that it is.
          throw error instanceof SourceRestingError ? (before ?? error) : error
        })
        if (visit.isProbe && isSilent && request.size === 'small') {
          void probe(visit, ask)
          throw resting(request.id)
        }
        try {
          return { value: await ask(visit, request), visit }
        } catch (error) {
          // A caller who left says nothing about the host.
          const again = !signal.aborted && visit.failed(error)
          visit.leave()
          if (!again || tries === maxTries) throw error
          before = error
        }
        await abortable(sleep(UPSTREAM_RETRY_MS * (0.5 + random())), signal)
      }
    },
    get rests() {
      return rests()
    },
    status() {
      const { restsMs, reason } = breaker
      return {
        ...(restsMs === undefined ? {} : { restsMs }),
        ...(reason === undefined ? {} : { lastError: reason }),
      }
    },
  }
}

/** One for each host, however many upstreams are there. */
export interface Hosts {
  of(url: URL): Host
}

const UPSTREAMS: Leniency = { tries: UPSTREAM_TRIES_COUNT, failures: BREAKER_FAILURES_COUNT }

/** @param leniency that of upstreams when absent */
export function createHosts(deps: HostDeps, leniency: Leniency = UPSTREAMS): Hosts {
  const hosts = new Map<string, Host>()
  return {
    of(url) {
      const name = url.protocol === 'file:' ? url.href : url.origin
      let host = hosts.get(name)
      if (host === undefined) {
        host = createHost(name, deps, leniency)
        hosts.set(name, host)
      }
      return host
    },
  }
}
