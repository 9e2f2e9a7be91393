/**
 * Whether a host is asked at all. After some failures in a row it is left alone for a while that grows; then one
 * request is let through, and all others wait for how that one goes. Pure but for clock and random.
 */
import { BREAKER_REST_CEILING_MS, BREAKER_REST_FLOOR_MS } from '../limits.ts'

interface Failure {
  readonly reason: string
  /** The host asked for so long a rest. */
  readonly restMs?: number
  /** It took a whole deadline. Others that failed as quickly as this one began are one event with it: a restart, a cut. */
  readonly slow?: boolean
}

/** One request. The first of these calls counts. */
export interface Attempt {
  succeeded(): void
  failed(failure: Failure): void
  /** It was given up for reasons of our own. */
  dropped(): void
}

export interface Breaker {
  /**
   * @param urgent shall not wait longer than the shortest rest: there is no other place for it to go
   * @returns 'resting' when the host is not to be asked, 'probed' while somebody else finds out
   */
  begin(urgent: boolean): Attempt | 'resting' | 'probed'
  /** How long it is not asked yet, milliseconds; 0 when the next request would be let through as a probe. */
  readonly restsMs: number | undefined
  /** Of the last failure, until the next success. */
  readonly reason: string | undefined
}

export function createBreaker(deps: {
  /** Monotonic, milliseconds: a wall clock that is set back would leave the host alone for ever. */
  clock: () => number
  /** [0, 1) */
  random: () => number
  /** So many in a row open it. */
  failures: number
  onOpen(reason: string, restMs: number): void
  onClose(): void
  /** A probe ended, whichever way. */
  onVerdict(): void
}): Breaker {
  const { clock, random } = deps
  let failures = 0
  let lastFailure = -Infinity
  let reason: string | undefined
  let rests = 0
  /** Not before this, not even when it is urgent. */
  let askedRestUntil = -Infinity
  let restUntil: number | undefined
  let probe: Attempt | undefined

  function open(restMs: number): void {
    const now = clock()
    const grown = Math.min(BREAKER_REST_CEILING_MS, BREAKER_REST_FLOOR_MS * 2 ** rests)
    // A fleet that lost a host at the same moment shall not come back at the same moment.
    const rest = Math.max(restMs, grown * (0.75 + random() / 2))
    const wasOpen = restUntil !== undefined
    rests += 1
    restUntil = now + rest
    if (!wasOpen) deps.onOpen(reason ?? '', rest)
  }

  function attempt(): Attempt {
    const begun = clock()
    let isSettled = false
    const settle = (verdict: () => void): void => {
      if (isSettled) return
      isSettled = true
      const wasProbe = probe === self
      if (wasProbe) probe = undefined
      verdict()
      if (wasProbe) deps.onVerdict()
    }
    const self: Attempt = {
      succeeded: () => {
        settle(() => {
          const wasOpen = restUntil !== undefined
          failures = 0
          rests = 0
          reason = undefined
          restUntil = undefined
          if (wasOpen) deps.onClose()
        })
      },
      failed: (failure) => {
        const wasProbe = probe === self
        settle(() => {
          const { restMs = 0, slow = false } = failure
          const now = clock()
          // One of those that opened it, late.
          if (restUntil !== undefined && !wasProbe) return
          if (restMs > 0) askedRestUntil = now + restMs
          else if (!slow && begun < lastFailure) return
          lastFailure = now
          reason = failure.reason
          failures += 1
          if (wasProbe || restMs > 0 || failures >= deps.failures) open(restMs)
        })
      },
      dropped: () => settle(() => {}),
    }
    return self
  }

  return {
    begin(urgent) {
      if (restUntil === undefined) return attempt()
      if (probe !== undefined) return 'probed'
      const urgentFrom = Math.max(lastFailure + BREAKER_REST_FLOOR_MS, askedRestUntil)
      if (clock() < (urgent ? Math.min(restUntil, urgentFrom) : restUntil)) return 'resting'
      probe = attempt()
      return probe
    },
    get restsMs() {
      return restUntil === undefined ? undefined : Math.max(0, restUntil - clock())
    },
    get reason() {
      return reason
    },
  }
}
