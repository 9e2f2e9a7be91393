import type { ByteRange } from '../source.ts'

/** What a `Range` header asks of a body. */
export type RangeChoice = { kind: 'full' } | { kind: 'partial'; range: ByteRange } | { kind: 'unsatisfiable' }

/** Optional white space is only legal around the list's commas, of which there are none here. */
const SINGLE_RANGE = /^bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*$/i

/**
 * RFC 9110 14.1.2 and 14.2. A unit that is not `bytes`, a malformed or reversed range and more than one range are
 * answered in full, as the RFC allows: several ranges are an amplifier, and nobody who asks us needs them.
 *
 * @param size of the whole body in bytes
 */
export function chooseRange(header: string | undefined, size: number): RangeChoice {
  const match = SINGLE_RANGE.exec(header ?? '')
  if (match === null) return { kind: 'full' }
  const [, first = '', last = ''] = match
  if (first === '') {
    if (last === '') return { kind: 'full' }
    // The last n bytes, or all when there are fewer.
    const length = Math.min(Number(last), size)
    if (length === 0) return { kind: 'unsatisfiable' }
    return { kind: 'partial', range: { start: size - length, end: size } }
  }
  // Digits beyond a safe integer become a float or Infinity, which compare rightly all the same.
  const start = Number(first)
  const end = last === '' ? Infinity : Number(last) + 1
  if (end <= start && end !== Infinity) return { kind: 'full' }
  if (start >= size) return { kind: 'unsatisfiable' }
  return { kind: 'partial', range: { start, end: Math.min(end, size) } }
}
