import { NARINFO_MAX_BYTES } from '../limits.ts'
import { quote } from './quote.ts'

export interface NarInfoLine {
  name: string
  value: string
  /** From 1. */
  line: number
}

/**
 * Splits a narinfo into its lines: a name, a colon, one space, a value, a newline.
 * Nix's own parser (libstore/nar-info.cc) looks for the next ':' and skips one character after it wherever these
 * are, so a line without a colon, or with nothing after it, swallows part of the next one; all such text is refused
 * here rather than read in another way than Nix would.
 * @throws RangeError
 */
export function splitNarInfo(text: string): NarInfoLine[] {
  const size = Buffer.byteLength(text)
  if (size > NARINFO_MAX_BYTES) throw new RangeError(`${size} bytes, at most ${NARINFO_MAX_BYTES} are read`)
  if (text.length === 0) throw new RangeError('the text is empty')
  if (text.startsWith('\ufeff')) throw new RangeError('starts with a byte order mark')
  if (text.includes('\0')) throw new RangeError('holds a NUL character')
  if (!text.endsWith('\n')) throw new RangeError('the last line has no newline: cut short?')
  return text.slice(0, -1).split('\n').map(splitLine)
}

function splitLine(text: string, index: number): NarInfoLine {
  const line = index + 1
  if (text.length === 0) throw new RangeError(`line ${line} is blank`)
  if (text.includes('\r')) throw new RangeError(`line ${line} holds a carriage return: ${quote(text)}`)
  const colon = text.indexOf(':')
  if (colon <= 0 || text.charAt(colon + 1) !== ' ') {
    throw new RangeError(`line ${line}: expected "Name: value", got ${quote(text)}`)
  }
  return { name: text.slice(0, colon), value: text.slice(colon + 2), line }
}
