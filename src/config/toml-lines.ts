/** A table's header, or the key before a `=`: bare and quoted names, dotted. */
const NAMES = String.raw`(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*`
const HEADER = new RegExp(String.raw`^\s*(\[\[?)\s*(${NAMES})\s*\]`)
const KEY = new RegExp(String.raw`^\s*(${NAMES})\s*=`)

/**
 * Which line of a TOML text sets what, by dotted names as in `feed.0.name`. The parser does not say; this is for
 * error messages only, and may be wrong within multi-line strings.
 */
export function linesOf(text: string): ReadonlyMap<string, number> {
  const lines = new Map<string, number>()
  const counts = new Map<string, number>()
  let table = ''
  for (const [index, line] of text.split('\n').entries()) {
    const header = HEADER.exec(line)
    const key = KEY.exec(line)
    if (header !== null) {
      table = plain(header[2] ?? '')
      if (header[1] === '[[') {
        const count = counts.get(table) ?? 0
        counts.set(table, count + 1)
        table = `${table}.${count}`
      }
      if (!lines.has(table)) lines.set(table, index + 1)
    } else if (key !== null) {
      const name = plain(key[1] ?? '')
      const path = table === '' ? name : `${table}.${name}`
      if (!lines.has(path)) lines.set(path, index + 1)
    }
  }
  return lines
}

/** The line of the value at `path`, or of the next larger thing around it. */
export function lineOf(lines: ReadonlyMap<string, number>, path: readonly string[]): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const line = lines.get(path.slice(0, length).join('.'))
    if (line !== undefined) return line
  }
  return undefined
}

function plain(names: string): string {
  return names
    .split('.')
    .map((name) => name.trim().replace(/^(["'])(.*)\1$/, '$2'))
    .join('.')
}
