/** What a file server says of `Range: bytes=FROM-` and `bytes=FROM-TO`, of a file of this size; any other range is the whole. */
export function rangeOf(
  range: string | undefined,
  size: number,
): { start: number; end: number; status: 200 | 206; headers: Record<string, string | number> } {
  const [, from, to] = /^bytes=([0-9]+)-([0-9]*)$/.exec(range ?? '') ?? []
  if (from === undefined) return { start: 0, end: size, status: 200, headers: { 'content-length': size } }
  const start = Math.min(Number(from), size)
  const end = to === undefined || to === '' ? size : Math.max(start, Math.min(size, Number(to) + 1))
  const headers = { 'content-length': end - start, 'content-range': `bytes ${start}-${end - 1}/${size}` }
  return { start, end, status: 206, headers }
}
