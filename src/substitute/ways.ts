/**
 * The ways to a NAR's bytes, cheapest first: an older path that is here and gives it; each root that somebody told, leaf by
 * leaf from all block sources; each stream that somebody offered. What nobody was asked about yet is asked only when the
 * known ways do not suffice.
 */
import type { CID } from 'multiformats/cid'
import { PACE_FACTOR, STRANGER_WAYS_COUNT, WAY_FAST_BYTES_PER_S } from '../limits.ts'
import { COST, isNeighbour } from '../source.ts'
import type { BlockSource, CallOptions, SourceId, StreamSource } from '../source.ts'
import type { AlongWays } from './along-ways.ts'
import type { Offer } from './offer.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { createProgress } from './progress.ts'
import type { Resolver } from './resolve.ts'
import type { Guess } from './rewriting.ts'
import { ALL_BLOCKS } from './scores.ts'
import type { Scores } from './scores.ts'

export type Way =
  | {
      readonly kind: 'blocks'
      readonly root: CID
      readonly told: SourceId
      /** A relay fetched it for us, while the NAR came another way: what came has to fit. */
      readonly isRelayed?: boolean
    }
  | { readonly kind: 'stream'; readonly source: StreamSource }

/** Nobody but a neighbour says that it leads to the NAR. */
export function isStranger(way: Way): boolean {
  return isNeighbour(way.kind === 'stream' ? way.source.id : way.told)
}

/** For the log, and for `Scores`, which keep account of roots as they do of sources. */
export function wayId(way: Way): string {
  return way.kind === 'blocks' ? `blocks:${way.root.toString()}` : way.source.id
}

/** Under which the pace of a way is remembered: that of blocks is our peers', whatever the root. */
export function paceId(way: Way): string {
  return way.kind === 'blocks' ? 'blocks' : way.source.id
}

/** What the way itself says of its first byte; undefined where it is as for all others. */
export function firstByteMs(way: Way): number | undefined {
  return way.kind === 'stream' ? way.source.firstByteMs : undefined
}

export function isGrowing(way: Way): boolean {
  return way.kind === 'stream' && way.source.isGrowing === true
}

interface FindDeps {
  readonly resolver: Resolver
  readonly scores: Scores
  readonly blockSources: readonly BlockSource[]
  /** Where neighbours are to be asked. */
  readonly along?: AlongWays
  /** What an older path here may give without anybody. */
  readonly guess?: Guess | undefined
  /** Nobody else is to give any of it. */
  readonly isUpstreamOnly?: boolean
}

type OrderDeps = Omit<FindDeps, 'resolver' | 'along' | 'guess' | 'isUpstreamOnly'>

/**
 * Whether a way is the last resort: a root that had a part in a wrong NAR lately, and every root while all peers failed
 * when they were last asked (P8: no NAR waits for those when somebody else has it).
 */
export function isDoubtful(way: Way, { scores, blockSources }: OrderDeps): boolean {
  return (
    way.kind === 'blocks' &&
    (!scores.usable(wayId(way)) ||
      !scores.trusted(ALL_BLOCKS) ||
      !blockSources.some((source) => scores.trusted(source.id)))
  )
}

/** Each way once, lazily: the sources are asked again (over the network) only when the known ones are used up. */
export async function* findWays(
  info: VerifiedNarInfo,
  deps: FindDeps,
  options: CallOptions,
): AsyncGenerator<Way, void, undefined> {
  const seen = new Set<string>()
  /** The one that proved right, until it is taken. */
  const made: Way[] = []
  let strangers = 0
  const isDue = (way: Way): boolean =>
    !isDoubtful(way, deps) && !(isStranger(way) && strangers >= STRANGER_WAYS_COUNT)
  const unseen = (lastResort: boolean): Way[] => {
    const ways = orderWays(deps.resolver.offer(info), deps).filter((way) => {
      if (deps.isUpstreamOnly === true && !isUpstream(way)) return false
      if (seen.has(wayId(way)) || !(lastResort || isDue(way))) return false
      if (isStranger(way)) strangers += 1
      seen.add(wayId(way))
      return true
    })
    return [...made.splice(0), ...ways]
  }
  // Each answer is used as it comes: one silent upstream must not keep what another has.
  const answers = createProgress()
  const { promise: late, resolve: onLate } = Promise.withResolvers<void>()
  const proveGuess = async (): Promise<void> => {
    const source = await deps.guess?.prove({ ...options, onLate })
    if (source !== undefined) made.push({ kind: 'stream', source })
    answers.notify()
  }
  const proof = proveGuess()
  // One and the same for all of this: when it is over, nobody near has it.
  const near = deps.along?.ways(seen, options) ?? []
  /** Nobody far away is asked for bytes before those near have said that they have none. */
  async function* inTurn(ways: Way[]): AsyncGenerator<Way, void, undefined> {
    for (const way of ways) {
      if (isFar(way)) yield* near
      deps.along?.own()
      // What was made later than anybody waited for it is still nearer than whatever comes next.
      yield* made.splice(0)
      yield way
    }
  }
  // Once it is late it is awaited at the end, and not to be heard of before.
  proof.catch(() => {})
  await Promise.race([proof, late])
  yield* inTurn(made.splice(0))
  yield* inTurn(unseen(false))
  yield* near
  let asked = false
  const asking = deps.resolver.askAll(info, { ...options, onAnswer: () => answers.notify() }).finally(() => {
    asked = true
    answers.notify()
  })
  asking.catch(() => {})
  for (;;) {
    const ways = unseen(false)
    // With none, nothing may be awaited before `wait`: who answers meanwhile would not be heard.
    if (ways.length > 0) yield* inTurn(ways)
    else if (asked) break
    else await answers.wait(options.signal)
  }
  await asking
  yield* inTurn(unseen(true))
  await proof
  yield* inTurn(made.splice(0))
}

function isFar(way: Way): boolean {
  return way.kind === 'stream' && way.source.cost > COST.neighbour
}

export function isUpstream(way: Way): boolean {
  return way.kind === 'stream' && way.source.cost === COST.upstream
}

export function isRelayed(way: Way): boolean {
  return way.kind === 'blocks' && way.isRelayed === true
}

/** By cost, then by pace; a way known to be many times faster goes first, whatever its cost. */
export function orderWays(offer: Offer, deps: OrderDeps): Way[] {
  const { scores, blockSources } = deps
  const streams = [...offer.streams].sort(
    (a, b) =>
      Number(scores.usable(b.id)) - Number(scores.usable(a.id)) ||
      Number(isFaster(b.id, a.id, scores)) - Number(isFaster(a.id, b.id, scores)) ||
      a.cost - b.cost ||
      (scores.pace(b.id) ?? 0) - (scores.pace(a.id) ?? 0),
  )
  const blocks: Way[] = offer.roots.map(({ root, from }) => ({ kind: 'blocks', root, told: from }))
  const streamed: Way[] = streams.map((source) => ({ kind: 'stream', source }))
  if (blockSources.length === 0) return streamed
  const [best] = streams
  const isSlow = best !== undefined && scores.usable(best.id) && isFaster(best.id, 'blocks', scores)
  return isSlow ? [...streamed, ...blocks] : [...blocks, ...streamed]
}

function isFaster(id: string, than: string, scores: Scores): boolean {
  const [pace, other] = [scores.pace(id), scores.pace(than)]
  if (pace === undefined || other === undefined || other >= WAY_FAST_BYTES_PER_S) return false
  return pace >= PACE_FACTOR * other
}
