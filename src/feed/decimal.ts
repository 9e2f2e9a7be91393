/**
 * A non-negative decimal as C2SP writes tree sizes: no sign, no leading zero, no exponent, and exact as a number.
 * `undefined` for anything else.
 */
export function parseDecimal(text: string): number | undefined {
  if (!/^(?:0|[1-9][0-9]{0,15})$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}
