/**
 * Who is near: other narswarms that were found or named, and binary caches that were named. None of them is trusted; the
 * table knows only where they are and how they behaved.
 */

/** `narswarm:<peer id>`, proved by its key when we and it connected, or `cache:<url>` for what was named by URL. */
export type NeighbourId = string

export interface Neighbour {
  readonly id: NeighbourId
  /** A narswarm has a trustless gateway and leaves in zstd beside the cache; a cache may have nothing but the cache. */
  readonly kind: 'narswarm' | 'cache'
  /**
   * Whether it said that it is a binary cache. What was named by URL may be a gateway of the whole world, which is told no path
   * that we look for.
   */
  readonly hasCache: boolean
  /**
   * http(s) base of its cache routes, ends with a slash. The host is the address that we reached it at, never one that it
   * told: nobody may send us elsewhere.
   */
  readonly url: URL
  readonly from: 'config' | 'mdns' | 'added'
  /** A person named it, and it says that it fetches what it has not for those who ask for differences. */
  readonly isRelay?: boolean
  /** Older blocks may be named to it (docs/spec/dcz-leaves.md): a narswarm known by its peer id, or it said so when it was probed. */
  readonly knowsDifferences: boolean
}

export interface Neighbours {
  /** Those to be asked now: neither banned nor in a back-off. */
  current(): readonly Neighbour[]
  /** @returns stops it */
  onChange(listener: () => void): () => void
  /** It answered as it should, were it with a miss. */
  answered(id: NeighbourId): void
  /** It did not answer, or stopped answering: left alone for a while, longer each time in a row. */
  failed(id: NeighbourId, reason: string): void
  /** What it gave was proved wrong: out for long. `reason` is what `peer list` says. */
  lied(id: NeighbourId, reason: string): void
}
