/**
 * When the next way is begun beside the one that is followed, and whether it takes over. One at a time; the loser is
 * stopped at once. A way that is alone is kept, however slow.
 */
import {
  GROWING_PACE_FACTOR,
  LAST_RESORT_MS,
  PACE_FACTOR,
  WAY_FAST_BYTES_PER_S,
  WAY_LOOK_MS,
  WAY_PACE_MS,
  WAY_QUIET_MS,
  WAY_SLOW_BYTES_PER_S,
} from '../limits.ts'
import { WayStalledError } from './errors.ts'
import type { FirstBytes } from './first-bytes.ts'
import type { Runner } from './runner.ts'
import type { Scores } from './scores.ts'
import { firstByteMs, isGrowing, paceId, wayId } from './ways.ts'
import type { Way } from './ways.ts'

export interface HedgeRequest {
  /** All peers of the way failed lately: nobody waits for it if it gives nothing at all. */
  readonly doubtful: boolean
  /** Milliseconds within which the next piece is due as a rule, as far as anybody knows. */
  pieceMs(): number
  /** Takes the next way; undefined when there is none. It may have to ask over the network. */
  takeNext(): Promise<Way | undefined>
  /** It was not needed, and may be taken again. */
  giveBack(way: Way): void
  /** Begins it at the byte where we are. */
  begin(way: Way): Runner
  rivalFailed(rival: Runner, error: unknown): void
}

export interface Hedge {
  /** Since when the next piece is waited for, in milliseconds of the clock; undefined while we are busy with the last one. */
  waitsSince: number | undefined
  /** Who took over; the followed one was then stopped with a WayStalledError. */
  readonly winner: Runner | undefined
  /** No more looks. @returns a rival under way, now the caller's */
  stop(): Runner | undefined
  /** After `stop`: resolves when a way that was being asked for is given back, so that whoever takes the next one gets it. */
  settled(): Promise<void>
}

export function watchWithHedge(
  runner: Runner,
  request: HedgeRequest,
  deps: { clock: () => number; firstBytes: FirstBytes; scores: Scores },
): Hedge {
  const { clock, scores } = deps
  const firstMs = request.doubtful ? 0 : (firstByteMs(runner.way) ?? deps.firstBytes.delayMs())
  /** Arrived by when, over the last WAY_PACE_MS. */
  const marks = [{ at: runner.begunAt, arrived: 0 }]
  let quietMs = WAY_QUIET_MS
  let slowMs = WAY_PACE_MS
  let slowSince = runner.begunAt
  let alone = false
  let asking: Promise<Way | undefined> | undefined
  let over = false
  let rival: Runner | undefined
  let winner: Runner | undefined
  let timer: NodeJS.Timeout | undefined

  const look = (): void => {
    if (over) return
    const now = clock()
    mark(now)
    if (alone) {
      if (request.doubtful && runner.arrived === 0 && now - runner.begunAt > LAST_RESORT_MS) give(undefined)
    } else if (rival === undefined && asking === undefined) {
      const reason = isSilent(now) ? 'silent' : isSlow(now) ? 'slow' : undefined
      if (reason !== undefined) void race(reason)
    }
    plan()
  }

  /** Looks again soon, and just when the first byte is late. */
  const plan = (): void => {
    clearTimeout(timer)
    if (over) return
    const untilLate = runner.begunAt + firstMs - clock()
    timer = setTimeout(look, untilLate < 0 ? WAY_LOOK_MS : Math.min(WAY_LOOK_MS, untilLate + 1))
  }

  const mark = (now: number): void => {
    marks.push({ at: now, arrived: runner.arrived })
    while (marks.length > 2 && now - (marks[1]?.at ?? now) >= WAY_PACE_MS) marks.shift()
  }

  /** Bytes a second since the oldest mark. */
  const pace = (now: number): number => {
    const [oldest = { at: now, arrived: 0 }] = marks
    return ((runner.arrived - oldest.arrived) / Math.max(1, now - oldest.at)) * 1000
  }

  const isSilent = (now: number): boolean => {
    if (hedge.waitsSince === undefined) return false
    if (runner.arrived === 0) return now - runner.begunAt >= firstMs
    return (
      now - Math.max(runner.lastAt, hedge.waitsSince) >=
      Math.max(quietMs, Math.min(WAY_PACE_MS, 2 * request.pieceMs()))
    )
  }
  const isSlow = (now: number): boolean => now - slowSince >= slowMs && pace(now) < WAY_FAST_BYTES_PER_S

  const race = async (reason: 'silent' | 'slow'): Promise<void> => {
    const before = runner.arrived
    asking = request.takeNext().catch(() => undefined)
    const way = await asking
    asking = undefined
    if (way === undefined) {
      alone = true
      return
    }
    const now = clock()
    const known = scores.pace(paceId(way))
    const factor = isGrowing(runner.way) ? GROWING_PACE_FACTOR : PACE_FACTOR
    const isFaster = known !== undefined && known >= factor * pace(now)
    const isWorthIt =
      reason === 'silent' ? runner.arrived === before : isFaster || pace(now) < WAY_SLOW_BYTES_PER_S
    if (over || !isWorthIt) {
      request.giveBack(way)
      beMorePatient(reason)
      return
    }
    const one = request.begin(way)
    rival = one
    const since = runner.arrived
    if (reason === 'silent') {
      // It lives: the other one is not needed, and not paid for.
      runner.onArrival = () => {
        runner.onArrival = undefined
        if (rival !== one) return
        lose(one)
        beMorePatient(reason)
      }
    }
    try {
      await one.ready()
    } catch (error) {
      if (rival !== one) return
      rival = undefined
      runner.onArrival = undefined
      request.rivalFailed(one, error)
      look()
      return
    }
    if (rival !== one) return
    runner.onArrival = undefined
    if (reason === 'silent' || isFaster || one.arrived > 2 * (runner.arrived - since)) {
      give(one)
    } else {
      lose(one)
      beMorePatient(reason)
    }
  }

  const lose = (one: Runner): void => {
    rival = undefined
    void one.stop(new Error('the way before it has moved on'))
    request.giveBack(one.way)
  }

  const beMorePatient = (reason: 'silent' | 'slow'): void => {
    if (reason === 'silent') {
      quietMs *= 2
    } else {
      slowMs *= 2
      slowSince = clock()
    }
  }

  const give = (to: Runner | undefined): void => {
    over = true
    winner = to
    clearTimeout(timer)
    const waitedMs = clock() - runner.lastAt
    const what = to === undefined ? 'and there is nobody else' : `${wayId(to.way)} is quicker`
    void runner.stop(
      new WayStalledError(
        `${wayId(runner.way)}: ${runner.arrived} bytes so far, the last ${waitedMs} ms ago, ${what}`,
      ),
    )
  }

  const hedge: Hedge = {
    waitsSince: undefined,
    get winner() {
      return winner
    },
    stop() {
      over = true
      clearTimeout(timer)
      runner.onArrival = undefined
      const left = rival
      rival = undefined
      return left
    },
    async settled() {
      await asking
    },
  }
  plan()
  return hedge
}
