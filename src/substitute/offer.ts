/** What is known of where a NAR's bytes can be had: who told a root, who offered a stream. */
import { LRUCache } from 'lru-cache'
import type { CID } from 'multiformats/cid'
import { OFFERS_MAX_COUNT } from '../limits.ts'
import { CidError, parseCid } from '../dag/cid.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { isNeighbour } from '../source.ts'
import type { NarInfoCandidate, SourceId, StreamSource } from '../source.ts'

interface ToldRoot {
  readonly root: CID
  readonly from: SourceId
}

export interface Offer {
  readonly roots: readonly ToldRoot[]
  readonly streams: readonly StreamSource[]
}

/** In memory and bounded: an offer that was dropped is gathered again from the sources. */
export interface Offers {
  add(candidate: NarInfoCandidate): void
  get(narHash: NarHash): Offer
  /** This NAR has another root, by its proven bytes: whoever tells this one is not listened to again. */
  refuse(narHash: NarHash, root: CID): void
}

export function createOffers(deps: { log: Log }): Offers {
  const offers = new LRUCache<NarHash, Offer>({ max: OFFERS_MAX_COUNT })
  const refused = new LRUCache<string, true>({ max: OFFERS_MAX_COUNT })
  const pair = (narHash: NarHash, root: CID): string => `${narHash} ${root.toString()}`
  const get = (narHash: NarHash): Offer => offers.get(narHash) ?? { roots: [], streams: [] }

  return {
    get,
    refuse(narHash, root) {
      refused.set(pair(narHash, root), true)
      const { roots, streams } = get(narHash)
      offers.set(narHash, { roots: roots.filter((one) => !one.root.equals(root)), streams })
    },
    add(candidate) {
      const { info, stream, from } = candidate
      const { roots, streams } = get(info.narHash)
      const told = candidate.cid ?? rootOf(candidate)
      const root = told !== undefined && refused.has(pair(info.narHash, told)) ? undefined : told
      offers.set(info.narHash, {
        roots: root === undefined ? roots : withRoot(roots, { root, from }),
        streams: stream === undefined ? streams : withStream(streams, stream),
      })
    },
  }

  /** One root a teller, its latest: else a liar with a new one each time would keep us busy with them. Neighbours' are last. */
  function withRoot(roots: readonly ToldRoot[], told: ToldRoot): readonly ToldRoot[] {
    const others = roots.filter((one) => one.from !== told.from)
    const same = others.find((one) => one.root.equals(told.root))
    if (same !== undefined && (isNeighbour(told.from) || !isNeighbour(same.from))) return others
    return [...others.filter((one) => one !== same), told].sort(
      (a, b) => Number(isNeighbour(a.from)) - Number(isNeighbour(b.from)),
    )
  }

  /** The latest of each source: a cache may have packed the NAR anew, under another name. */
  function withStream(streams: readonly StreamSource[], stream: StreamSource): readonly StreamSource[] {
    const others = streams.filter((one) => one.id !== stream.id)
    return [...others, stream].sort((a, b) => (a.priority ?? Infinity) - (b.priority ?? Infinity) || 0)
  }

  function rootOf({ info, from }: NarInfoCandidate): CID | undefined {
    if (info.cid === undefined) return undefined
    try {
      return parseCid(info.cid)
    } catch (error) {
      if (!(error instanceof CidError)) throw error
      deps.log.debug({ source: from, path: info.storePath }, `CID of a narinfo ignored: ${error.message}`)
      return undefined
    }
  }
}
