/** The log of a serving narswarm, on standard error: lines for a person, or JSON lines (pino) for a collector. */
import { pino } from 'pino'
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'
import type { TextStream } from './output.ts'

const LEVELS = ['debug', 'info', 'warn', 'error'] as const
type Level = (typeof LEVELS)[number]

export function createLog(config: Config['log'], stream: TextStream): Log {
  if (config.format === 'json') return pino({ level: config.level, base: null }, stream)
  const write =
    (level: Level) =>
    (fields: object, message: string): void => {
      if (LEVELS.indexOf(level) < LEVELS.indexOf(config.level)) return
      stream.write(`${level.padEnd(5)} ${message}${formatFields(fields)}\n`)
    }
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}

/** ` [path=… source=…]`: values that are text or numbers bare, the rest as JSON; an error by its message. */
function formatFields(fields: object): string {
  const words = Object.entries(fields).map(
    ([name, value]: [string, unknown]) => `${name}=${formatValue(value)}`,
  )
  return words.length === 0 ? '' : ` [${words.join(' ')}]`
}

function formatValue(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message)
  return typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)
    ? value
    : (JSON.stringify(value) ?? 'undefined')
}
