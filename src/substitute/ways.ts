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
  for (const gather of [
    () => deps.resolver.offer(info),
    (): Promise<Offer> => deps.resolver.askAll(info, options),
  ]) {
    for (const way of order(await gather(), deps)) {
      if (seen.has(wayId(way))) continue
      seen.add(wayId(way))
      yield way
    }
  }
}

function order(offer: Offer, deps: { scores: Scores; blockSources: readonly BlockSource[] }): Way[] {
  const { scores, blockSources } = deps
  const usable = (way: Way): boolean => scores.usable(wayId(way))
  const streams = [...offer.streams].sort(
    (a, b) =>
      Number(scores.usable(b.id)) - Number(scores.usable(a.id)) ||
      a.cost - b.cost ||
      (scores.averageMs(a.id) ?? 0) - (scores.averageMs(b.id) ?? 0),
  )
  const streamed: Way[] = streams.map((source) => ({ kind: 'stream', source }))
  const blocks: Way[] = offer.roots.map(({ root, from }) => ({ kind: 'blocks', root, told: from }))
  if (blockSources.length === 0) return streamed
  // A root that had a part in a wrong NAR lately is the last resort.
  const doubtful = blocks.filter((way) => !usable(way))
  const good = blocks.filter(usable)
  // All peers failed lately: upstream first, the peers only when it fails too (P8).
  return blockSources.some((source) => scores.usable(source.id))
    ? [...good, ...streamed, ...doubtful]
    : [...streamed, ...good, ...doubtful]
}
