const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const

/**
 * Bytes of `20GiB`, `1.5 TiB`, `500MiB`, `0`. A number without a unit is none but 0: bytes or gigabytes, nobody would know.
 *
 * @throws RangeError
 */
export function parseSize(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,15}(?:\.\d{1,3})?) ?(B|KiB|MiB|GiB|TiB)?$/.exec(text) ?? []
  const factor = unit in UNITS ? UNITS[unit as keyof typeof UNITS] : Number(number) === 0 ? 1 : Number.NaN
  const bytes = number === '' ? Number.NaN : Math.round(Number(number) * factor)
  if (!Number.isSafeInteger(bytes)) {
    throw new RangeError(
      `expected a size such as 20GiB (B, KiB, MiB, GiB, TiB) or 0, got ${JSON.stringify(text.slice(0, 80))}`,
    )
  }
  return bytes
}
