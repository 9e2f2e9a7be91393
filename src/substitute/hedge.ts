/**
 * When the next way is begun beside the one that is followed, and whether it takes over. One at a time, unless it is as
 * silent as the followed one; losers are stopped at once. A way that is alone is kept, however slow.
 */
import {
  GROWING_PACE_FACTOR,
  LAST_RESORT_MS,
  PACE_FACTOR,
  RIVAL_SILENT_MS,
  RIVALS_MAX_COUNT,
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
  /** It has given nothing for long enough: it may be taken again after all others. */
  putOff(way: Way): void
  /** Begins it at the byte where we are. */
  begin(way: Way): Runner
  rivalFailed(rival: Runner, error: unknown): void
  /** One that takes over as soon as it gives something, however well the others do. Never rejects. */
  readonly better?: Promise<Way | undefined> | undefined
}

export interface Hedge {
  /** Since when the next piece is waited for, in milliseconds of the clock; undefined while we are busy with the last one. */
  waitsSince: number | undefined
  /** Who took over; the followed one was then stopped, with a WayStalledError if that is its own doing. */
  readonly winner: Runner | undefined
  /** No more looks. @returns the better way or the rival that was begun last, now the caller's */
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
  /** There was no next way when one was asked for. */
  let exhausted = false
  let asking: Promise<Way | undefined> | undefined
  let over = false
  /** As they were begun: each but the last has let us wait for RIVAL_SILENT_MS. */
  const rivals: Runner[] = []
  /** The better one, while it has given nothing. */
  let joining: Runner | undefined
  let winner: Runner | undefined
  let timer: NodeJS.Timeout | undefined

  const look = (): void => {
    if (over) return
    const now = clock()
    mark(now)
    if (joining !== undefined && now - joining.lastAt >= WAY_PACE_MS) dropJoining()
    if (exhausted && rivals.length === 0) {
      if (request.doubtful && runner.arrived === 0 && now - runner.begunAt > LAST_RESORT_MS) give(undefined)
    } else if (!exhausted && asking === undefined) {
      const reason = isSilent(now) ? 'silent' : isSlow(now) ? 'slow' : undefined
      const isDue = rivals.length === 0 || (reason === 'silent' && isStuck(now))
      if (reason !== undefined && isDue) void race(reason)
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

  /** The rival that was begun last is as silent as the followed one. */
  const isStuck = (now: number): boolean => {
    const last = rivals.at(-1)
    if (last === undefined || rivals.length >= RIVALS_MAX_COUNT) return false
    return last.arrived === 0 && now - last.begunAt >= Math.max(RIVAL_SILENT_MS, firstByteMs(last.way) ?? 0)
  }

  const race = async (reason: 'silent' | 'slow'): Promise<void> => {
    const before = runner.arrived
    asking = request.takeNext().catch(() => undefined)
    const way = await asking
    asking = undefined
    if (way === undefined) {
      exhausted = true
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
    rivals.push(one)
    const since = runner.arrived
    if (reason === 'silent') {
      // It lives: the others are not needed, and not paid for.
      runner.onArrival = () => {
        loseAll()
        beMorePatient(reason)
      }
    }
    try {
      await one.ready()
    } catch (error) {
      if (!rivals.includes(one)) return
      rivals.splice(rivals.indexOf(one), 1)
      if (rivals.length === 0) runner.onArrival = undefined
      request.rivalFailed(one, error)
      look()
      return
    }
    if (!rivals.includes(one)) return
    if (reason === 'silent' || isFaster || one.arrived > 2 * (runner.arrived - since)) {
      give(one)
    } else {
      loseAll()
      beMorePatient(reason)
    }
  }

  const join = async (): Promise<void> => {
    const way = await request.better
    if (way === undefined || over) return
    const one = request.begin(way)
    joining = one
    try {
      await one.ready()
    } catch (error) {
      if (joining !== one) return
      joining = undefined
      request.rivalFailed(one, error)
      return
    }
    if (joining === one) give(one, new Error(`${wayId(one.way)} has less to send`))
  }

  const dropJoining = (): void => {
    void joining?.stop(new Error('it was not needed, or gave nothing'))
    joining = undefined
  }

  /** Nobody needs them; of those before `kept` nobody expects anything soon. */
  const loseAll = (kept?: Runner): void => {
    runner.onArrival = undefined
    const before = kept === undefined ? 0 : rivals.indexOf(kept)
    for (const [at, one] of [...rivals.splice(0).entries()].toReversed()) {
      if (one === kept) continue
      exhausted = false
      if (at < before) {
        void one.stop(new WayStalledError(`${wayId(one.way)}: nothing came, and others are quicker`))
        request.putOff(one.way)
      } else {
        void one.stop(new Error('the way before it has moved on'))
        request.giveBack(one.way)
      }
    }
  }

  const beMorePatient = (reason: 'silent' | 'slow'): void => {
    if (reason === 'silent') {
      quietMs *= 2
    } else {
      slowMs *= 2
      slowSince = clock()
    }
  }

  const give = (to: Runner | undefined, reason: Error = stalled(to)): void => {
    over = true
    winner = to
    clearTimeout(timer)
    loseAll(to)
    if (to === joining) joining = undefined
    dropJoining()
    void runner.stop(reason)
  }

  const stalled = (to: Runner | undefined): WayStalledError => {
    const waitedMs = clock() - runner.lastAt
    const what = to === undefined ? 'and there is nobody else' : `${wayId(to.way)} is quicker`
    return new WayStalledError(
      `${wayId(runner.way)}: ${runner.arrived} bytes so far, the last ${waitedMs} ms ago, ${what}`,
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
      const left = joining ?? rivals.at(-1)
      joining = undefined
      loseAll(left)
      return left
    },
    async settled() {
      await asking
    },
  }
  plan()
  if (request.better !== undefined) void join()
  return hedge
}
