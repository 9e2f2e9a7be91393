/** Which bytes of an immutable body a request gets: preconditions first, then the range (RFC 9110 13.2.2). */
import type { ByteRange } from '../source.ts'
import { chooseRange } from './range.ts'

export interface SelectionRequest {
  method: string
  header(name: string): string | undefined
}

export type Selection =
  { status: 200; range: ByteRange } | { status: 206; range: ByteRange } | { status: 304 } | { status: 416 }

/**
 * @param body.etag strong, with its quotes
 */
export function selectBytes(request: SelectionRequest, body: { size: number; etag: string }): Selection {
  const { size, etag } = body
  if (etagListed(request.header('if-none-match'), etag)) return { status: 304 }
  const full: Selection = { status: 200, range: { start: 0, end: size } }
  // Range is defined for GET alone (RFC 9110 14.2).
  if (request.method !== 'GET') return full
  // A date can never be right, as nothing here has one: the range is dropped, so that two bodies are never spliced.
  const ifRange = request.header('if-range')
  if (ifRange !== undefined && ifRange !== etag) return full
  const choice = chooseRange(request.header('range'), size)
  switch (choice.kind) {
    case 'full':
      return full
    case 'partial':
      return { status: 206, range: choice.range }
    case 'unsatisfiable':
      return { status: 416 }
    default:
      return choice satisfies never
  }
}

/** Weak comparison, as If-None-Match demands (RFC 9110 13.1.2). */
export function etagListed(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  if (header.trim() === '*') return true
  const opaque = etag.replace(/^W\//, '')
  return header.split(',').some((item) => item.trim().replace(/^W\//, '') === opaque)
}

/** Inclusive, unlike {@link ByteRange}. */
export function formatContentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end - 1}/${size}`
}
