/**
 * The request header by which a narswarm asks another for a NAR that may still be on its way there: it checks the bytes
 * itself, so they need not be proved yet. A dictionary in the manner of RFC 9651; docs/adr/018 says what it is for.
 */
import { ALONG_EXPECTED_WAIT_MS, ALONG_WAIT_MS } from '../limits.ts'

export const ALONG_HEADER = 'narswarm-along'

/** How long the asker would wait for the NAR to be on its way, in milliseconds. */
export interface AlongWait {
  /** While the asked one, whose Nix has asked for it, still looks where it can be had. */
  readonly begunMs: number
  /** While its Nix has only asked for the narinfo, and may ask for the bytes next. */
  readonly expectedMs: number
}

export const NO_WAIT: AlongWait = { begunMs: 0, expectedMs: 0 }

export function formatAlong({ begunMs, expectedMs }: AlongWait): string {
  return `begun=${begunMs}, expected=${expectedMs}`
}

/**
 * Waits are cut to what anybody is kept waiting for.
 *
 * @returns undefined when the asker wants proved bytes alone: no such header, or one that we do not understand
 */
export function parseAlong(header: string | undefined): AlongWait | undefined {
  const match = /^begun=([0-9]{1,6}), ?expected=([0-9]{1,6})$/.exec(header ?? '')
  if (match === null) return undefined
  return {
    begunMs: Math.min(Number(match[1]), ALONG_WAIT_MS),
    expectedMs: Math.min(Number(match[2]), ALONG_EXPECTED_WAIT_MS),
  }
}
