/** What a relay says of itself, and how it is asked: docs/spec/relay.md. */
import type { HashPart } from '../nix/store-path.ts'

/** On the answer to nix-cache-info, with the value 1, in lower case as undici has it. */
export const RELAY_HEADER = 'narswarm-relay'

/** @param base of the relay's routes, with a slash at its end */
export function relayUrl(base: URL, wanted: HashPart, older: HashPart): URL {
  return new URL(`relay/${wanted}?older=${older}`, base)
}
