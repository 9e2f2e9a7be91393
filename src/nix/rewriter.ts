/**
 * Store paths in bytes, replaced by others of the same length: what a rebuild does to everything above the package that
 * changed. Finds as Nix finds references (libutil/references.cc): by the hash part alone, wherever it stands.
 */
import { HASH_PART_CHARS, hashPartOf, nameOf } from './store-path.ts'
import type { StorePath } from './store-path.ts'
import { NIX32_ALPHABET } from './nix32.ts'

/** Base names of equal length. Where only the hash part of `from` stands, only that is replaced. */
export interface Rewrite {
  readonly from: StorePath
  readonly to: StorePath
}

export interface Rewriter {
  /** Bytes before a place, and after it, that can have a say in what comes to stand there. */
  readonly reach: number
  /**
   * Replaces in place, from the first byte on, all that begins in `bytes`; what was written is not looked at again.
   *
   * @param isLast nothing comes after them
   * @returns how many bytes at the start are as they shall be. Those after them are as they were and belong before the
   * next bytes; none when `isLast`, else `reach` at most
   */
  rewrite(bytes: Uint8Array, isLast: boolean): number
}

interface Pattern {
  readonly from: Uint8Array
  readonly to: Uint8Array
  /** Bytes to be replaced where all of `from` stands, and where only its hash part does. */
  readonly whole: number
}

/** Characters that decide together how far the search may move on: 15 bits, a table of 32 KiB. */
const BLOCK_CHARS = 3
const BLOCKS_COUNT = 32 ** BLOCK_CHARS
const MAX_SHIFT = HASH_PART_CHARS - BLOCK_CHARS + 1
const NO_DIGIT = 255
const DIGITS = digitsByByte()

/**
 * All at once, so that a chain (a to b, b to c) is no matter. The search is that of Wu and Manber (1994): it looks at the
 * last three characters of a window and moves on by some 30 bytes, whatever the number of patterns.
 *
 * @throws RangeError when two of them have one `from`, or a `to` has another length
 */
export function createRewriter(rewrites: readonly Rewrite[]): Rewriter {
  const patterns = rewrites.filter(({ from, to }) => from !== to).map(toPattern)
  const shifts = new Uint8Array(BLOCKS_COUNT).fill(MAX_SHIFT)
  const byLastBlock = new Map<number, Pattern[]>()
  for (const pattern of patterns) {
    for (let at = 0; at < MAX_SHIFT; at += 1) {
      const block = blockAt(pattern.from, at)
      shifts[block] = Math.min(shifts[block] ?? 0, MAX_SHIFT - 1 - at)
    }
    const last = blockAt(pattern.from, MAX_SHIFT - 1)
    const others = byLastBlock.get(last) ?? []
    if (others.some(({ from }) => startsWith(from, pattern.from.subarray(0, HASH_PART_CHARS)))) {
      throw new RangeError(`two rewrites of ${Buffer.from(pattern.from).toString()}`)
    }
    byLastBlock.set(last, [...others, pattern])
  }
  const longest = patterns.reduce((most, { whole }) => Math.max(most, whole), HASH_PART_CHARS)

  /** @returns bytes replaced at `at`: 0 when nothing stands there */
  function replaceAt(bytes: Uint8Array, at: number, block: number): number {
    for (const { from, to, whole } of byLastBlock.get(block) ?? []) {
      const common = commonBytes(bytes, at, from)
      if (common < HASH_PART_CHARS) continue
      const count = common === whole ? whole : HASH_PART_CHARS
      bytes.set(to.subarray(0, count), at)
      return count
    }
    return 0
  }

  return {
    reach: longest - 1,
    rewrite(bytes, isLast) {
      const { length } = bytes
      if (patterns.length === 0) return length
      const lastStart = length - (isLast ? HASH_PART_CHARS : longest)
      let at = 0
      while (at <= lastStart) {
        const third = DIGITS[bytes[at + 31] ?? 0] ?? NO_DIGIT
        if (third === NO_DIGIT) {
          at += 32
          continue
        }
        const second = DIGITS[bytes[at + 30] ?? 0] ?? NO_DIGIT
        if (second === NO_DIGIT) {
          at += 31
          continue
        }
        const first = DIGITS[bytes[at + 29] ?? 0] ?? NO_DIGIT
        if (first === NO_DIGIT) {
          at += 30
          continue
        }
        const block = (first << 10) | (second << 5) | third
        const shift = shifts[block] ?? 0
        at += shift === 0 ? replaceAt(bytes, at, block) || 1 : shift
      }
      return isLast ? length : Math.min(at, length)
    },
  }
}

function toPattern({ from, to }: Rewrite): Pattern {
  if (from.length !== to.length) throw new RangeError(`${from} and ${to} are not of the same length`)
  const whole = nameOf(from) === nameOf(to) ? HASH_PART_CHARS : from.length
  return {
    from: Buffer.from(from.slice(0, whole), 'latin1'),
    to: Buffer.from(whole === from.length ? to : hashPartOf(to), 'latin1'),
    whole,
  }
}

/** From a store path's hash part, which has nix32 digits alone. */
function blockAt(hashPart: Uint8Array, at: number): number {
  const digit = (index: number): number => DIGITS[hashPart[index] ?? 0] ?? 0
  return (digit(at) << 10) | (digit(at + 1) << 5) | digit(at + 2)
}

/** How many bytes from `at` on are those of `pattern`. */
function commonBytes(bytes: Uint8Array, at: number, pattern: Uint8Array): number {
  let count = 0
  while (count < pattern.length && bytes[at + count] === pattern[count]) count += 1
  return count
}

function startsWith(bytes: Uint8Array, head: Uint8Array): boolean {
  return commonBytes(bytes, 0, head) === head.length
}

function digitsByByte(): Uint8Array {
  const digits = new Uint8Array(256).fill(NO_DIGIT)
  for (const [digit, byte] of Buffer.from(NIX32_ALPHABET).entries()) digits[byte] = digit
  return digits
}
