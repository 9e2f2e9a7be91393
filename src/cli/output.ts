/** The two streams of a command: results go to stdout, all else to stderr. */
import { styleText } from 'node:util'

export interface TextStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  on?(event: 'error', listener: (error: Error) => void): unknown
}

export interface Output {
  result(line: string): void
  /** A table on stdout; nothing for one without rows. */
  table(rows: readonly (readonly string[])[], head: readonly TableHead[]): void
  /** One line of JSON. */
  json(value: unknown): void
  note(line: string): void
  /** As `note`, with the program's name before it, as every tool does. */
  complain(line: string): void
  /** Replaces what it said before, on a terminal; says nothing elsewhere. '' takes it away. */
  progress(line: string): void
  /** Whether somebody watches, and both streams are one terminal. */
  readonly watched: boolean
}

interface TableHead {
  readonly title: string
  readonly align?: 'right'
}

const CLEAR_LINE = '\r\u001b[K'
const COLUMN_GAP = '  '
const DEFAULT_COLUMNS = 80

export function createOutput(streams: {
  stdout: TextStream
  stderr: TextStream
  env: NodeJS.ProcessEnv
}): Output {
  const { stdout, stderr, env } = streams
  const noColor = (env['NO_COLOR'] ?? '') !== ''
  const watched = stdout.isTTY === true && stderr.isTTY === true && env['TERM'] !== 'dumb'
  const paint = (to: TextStream, format: Parameters<typeof styleText>[0], text: string): string =>
    to.isTTY === true && !noColor ? styleText(format, text, { validateStream: false }) : text
  let shown = ''
  // A reader that has seen enough (`| head`) ends no work: serving goes on, and so does publishing.
  for (const stream of [stdout, stderr]) stream.on?.('error', () => {})

  const progress = (line: string): void => {
    if (!watched || line === shown) return
    const width = (stderr.columns ?? DEFAULT_COLUMNS) - 1
    stderr.write(CLEAR_LINE + printable(line).slice(0, width))
    shown = line
  }
  const say = (to: TextStream, line: string): void => {
    progress('')
    to.write(`${line}\n`)
  }

  return {
    watched,
    progress,
    result: (line) => say(stdout, printable(line)),
    json: (value) => say(stdout, JSON.stringify(value)),
    note: (line) => say(stderr, printable(line)),
    complain: (line) => say(stderr, `${paint(stderr, 'red', 'narswarm:')} ${printable(line)}`),
    table(rows, head) {
      if (rows.length === 0) return
      const cells = rows.map((row) => row.map(printable))
      const widths = head.map(({ title }, at) =>
        Math.max(title.length, ...cells.map((row) => row[at]?.length ?? 0)),
      )
      const format = (row: readonly string[]): string =>
        head
          .map(({ align }, at) => pad(row[at] ?? '', widths[at] ?? 0, align))
          .join(COLUMN_GAP)
          .trimEnd()
      say(stdout, paint(stdout, 'bold', format(head.map(({ title }) => title))))
      for (const row of cells) say(stdout, format(row))
    },
  }
}

/** Names and messages come from others too: nothing in them may steer the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function pad(text: string, width: number, align: 'right' | undefined): string {
  return align === 'right' ? text.padStart(width) : text.padEnd(width)
}
