import type { NarHash } from '../nix/hash.ts'
import type { Use } from './in-use.ts'

/** A whole NAR, or the kept part of one, that nobody pinned and nobody writes. */
export interface Holding {
  readonly kind: 'nar' | 'part'
  readonly narHash: NarHash
  /** On disk. */
  readonly bytes: number
}

/** Tells a NAR from its own part. */
export function holdingKey({ kind, narHash }: Holding): string {
  return `${kind} ${narHash}`
}

export function totalBytes(holdings: readonly Holding[]): number {
  return holdings.reduce((bytes, holding) => bytes + holding.bytes, 0)
}

export interface Need {
  /** NARs of more go first, and whatever else is here: they can never stay. */
  readonly maxBytes: number
  /** To free among those that can stay. */
  readonly overQuota: number
  /** To free at all. */
  readonly shortOfSpace: number
}

/**
 * Which ones go: those larger than the quota, then the least recently used, until need is met. What is open stays, for its
 * reader gets no second look; what was read just now goes only if `hard`, when the alternative is to refuse a NAR.
 *
 * @param holdings least recently used first
 */
export function chooseVictims<T extends Holding>(
  holdings: readonly T[],
  need: Need,
  use: (narHash: NarHash) => Use,
  hard: boolean,
): T[] {
  let { overQuota, shortOfSpace } = need
  const victims: T[] = []
  const tooLarge = ({ bytes }: T): boolean => bytes > need.maxBytes
  for (const holding of holdings) {
    if (!tooLarge(holding) || use(holding.narHash) !== 'idle') continue
    shortOfSpace -= holding.bytes
    victims.push(holding)
  }
  for (const wanted of hard ? (['idle', 'recent'] as const) : (['idle'] as const)) {
    for (const holding of holdings) {
      if (overQuota <= 0 && shortOfSpace <= 0) return victims
      if (use(holding.narHash) !== wanted || (wanted === 'idle' && tooLarge(holding))) continue
      if (!tooLarge(holding)) overQuota -= holding.bytes
      else if (shortOfSpace <= 0) continue
      shortOfSpace -= holding.bytes
      victims.push(holding)
    }
  }
  return victims
}
