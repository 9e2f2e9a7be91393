import { createHash } from 'node:crypto'

/** Numbers that a seed decides, so that a run can be had again as far as the machine's own timing allows. */
export interface Random {
  /** From 0, below 1. */
  next(): number
  /** A whole number, both ends included. */
  int(from: number, to: number): number
  /** Spread evenly over the orders of magnitude. */
  magnitude(from: number, to: number): number
  chance(probability: number): boolean
  /** @throws RangeError for an empty list */
  pick<T>(list: readonly T[]): T
  /** By weight. */
  weighted<T>(choices: readonly (readonly [weight: number, value: T])[]): T
  bytes(length: number): Buffer
  /** Another stream of the same seed: what one part of a run draws does not move what another one gets. */
  fork(label: string): Random
}

export function createRandom(seed: number, label = ''): Random {
  const digest = createHash('sha256').update(`${seed} ${label}`).digest()
  let state = digest.readUInt32LE()
  // mulberry32: small, quick, and good enough to choose mischief by.
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const int = (from: number, to: number): number => from + Math.floor(next() * (to - from + 1))
  return {
    next,
    int,
    magnitude: (from, to) => Math.round(from * (to / from) ** next()),
    chance: (probability) => next() < probability,
    pick(list) {
      const at = int(0, list.length - 1)
      if (list.length === 0) throw new RangeError('nothing to pick from')
      return list[at] as (typeof list)[number]
    },
    weighted(choices) {
      let left = next() * choices.reduce((sum, [weight]) => sum + weight, 0)
      for (const [weight, value] of choices) {
        left -= weight
        if (left < 0) return value
      }
      const last = choices.at(-1)
      if (last === undefined) throw new RangeError('nothing to choose from')
      return last[1]
    },
    bytes(length) {
      const bytes = Buffer.allocUnsafe(length)
      for (let at = 0; at < length; at++) bytes[at] = next() * 256
      return bytes
    },
    fork: (inner) => createRandom(seed, `${label}/${inner}`),
  }
}
