/**
 * The ways to a NAR's bytes, cheapest first: each root that somebody told, leaf by leaf from all block sources; each
 * stream that somebody offered. What nobody was asked about yet is asked only when the known ways do not suffice.
 */
import type { CID } from 'multiformats/cid'
import type { BlockSource, CallOptions, SourceId, StreamSource } from '../source.ts'
import type { Offer } from './offer.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Resolver } from './resolve.ts'
import type { Scores } from './scores.ts'

export type Way =
  | { readonly kind: 'blocks'; readonly root: CID; readonly told: SourceId }
  | { readonly kind: 'stream'; readonly source: StreamSource }

/** For the log, and for `Scores`, which keep account of roots as they do of sources. */
export function wayId(way: Way): string {
  return way.kind === 'blocks' ? `blocks:${way.root.toString()}` : way.source.id
}

/** Each way once, lazily: the sources are asked again (over the network) only when the known ones are used up. */
export async function* findWays(
  info: VerifiedNarInfo,
  deps: { resolver: Resolver; scores: Scores; blockSources: readonly BlockSource[] },
  options: CallOptions,
): AsyncGenerator<Way, void, undefined> {
  const seen = new Set<string>()
  function* unseen(ways: readonly Way[]): Generator<Way, void, undefined> {
    for (const way of ways) {
      if (seen.has(wayId(way))) continue
      seen.add(wayId(way))
      yield way
    }
  }
  // The last resort, after all that others may offer: a root that had a part in a wrong NAR lately, and every root while
  // all peers failed lately (P8).
  const { scores, blockSources } = deps
  const isDoubtful = (way: Way): boolean =>
    way.kind === 'blocks' &&
    (!scores.usable(wayId(way)) || !blockSources.some((source) => scores.usable(source.id)))
  const known = order(deps.resolver.offer(info), deps)
  yield* unseen(known.filter((way) => !isDoubtful(way)))
  const all = order(await deps.resolver.askAll(info, options), deps)
  yield* unseen(all.filter((way) => !isDoubtful(way)))
  yield* unseen(all)
}

function order(offer: Offer, deps: { scores: Scores; blockSources: readonly BlockSource[] }): Way[] {
  const { scores, blockSources } = deps
  const streams = [...offer.streams].sort(
    (a, b) =>
      Number(scores.usable(b.id)) - Number(scores.usable(a.id)) ||
      a.cost - b.cost ||
      (scores.averageMs(a.id) ?? 0) - (scores.averageMs(b.id) ?? 0),
  )
  const blocks: Way[] = offer.roots.map(({ root, from }) => ({ kind: 'blocks', root, told: from }))
  const streamed: Way[] = streams.map((source) => ({ kind: 'stream', source }))
  return blockSources.length === 0 ? streamed : [...blocks, ...streamed]
}
