import { UPSTREAM_RETRY_AFTER_MAX_MS } from '../limits.ts'

type Header = string | string[] | undefined

/**
 * RFC 9110, 10.2.3: seconds, or a date, which is read by the host's own clock.
 * @returns milliseconds, capped; 0 when it says nothing we understand
 */
export function retryAfterMs(retryAfter: Header, date: Header): number {
  if (typeof retryAfter !== 'string') return 0
  const ms = /^[0-9]+$/.test(retryAfter)
    ? Number(retryAfter) * 1000
    : typeof date === 'string'
      ? Date.parse(retryAfter) - Date.parse(date)
      : 0
  return Math.min(UPSTREAM_RETRY_AFTER_MAX_MS, Math.max(0, Number.isNaN(ms) ? 0 : ms))
}
