/**
 * The request header by which a narswarm asks another for a NAR that may still be on its way there: it checks the bytes
 * itself, so they need not be proved yet. A dictionary in the manner of RFC 9651; docs/adr/018 says what it is for.
 */
import { ALONG_EXPECTED_WAIT_MS, ALONG_WAIT_MS } from '../limits.ts'
import type { NeighbourId } from './neighbours.ts'

export const ALONG_HEADER = 'narswarm-along'

export interface AlongRequest {
  /** How long the asker would wait while the asked one, whose Nix wants the NAR, still looks where it can be had; milliseconds. */
  readonly begunMs: number
  /** The same while its Nix has only asked for the narinfo, and may ask for the bytes next. */
  readonly expectedMs: number
  /** Who the asker says it is: whoever is behind it in the order of the NAR does not keep it waiting. Nothing else comes of it. */
  readonly as?: NeighbourId
}

/** @param request.as one that begins with `narswarm:` */
export function formatAlong({ begunMs, expectedMs, as }: AlongRequest): string {
  const name = as === undefined ? '' : `, as=${as.slice(NARSWARM.length)}`
  return `begun=${begunMs}, expected=${expectedMs}${name}`
}

/**
 * Waits are cut to what anybody is kept waiting for.
 *
 * @returns undefined when the asker wants proved bytes alone: no such header, or one that we do not understand
 */
export function parseAlong(header: string | undefined): AlongRequest | undefined {
  const match = /^begun=([0-9]{1,6}), expected=([0-9]{1,6})(?:, as=([0-9A-Za-z]{1,128}))?$/.exec(header ?? '')
  if (match === null) return undefined
  const [, begun, expected, name] = match
  return {
    begunMs: Math.min(Number(begun), ALONG_WAIT_MS),
    expectedMs: Math.min(Number(expected), ALONG_EXPECTED_WAIT_MS),
    ...(name === undefined ? {} : { as: NARSWARM + name }),
  }
}

const NARSWARM = 'narswarm:'
