import { checkPeerAddress } from '../config/address.ts'
import { quote } from '../nix/quote.ts'
import { neighbourSources } from '../source.ts'
import type { NeighbourId } from './neighbours.ts'
import { peerIdIn } from './peer-address.ts'

/** What a person calls a neighbour: its URL, its multiaddr, its peer id, or its id as `peer list` shows it. */
export type NamedNeighbour =
  | { readonly id: NeighbourId; readonly kind: 'cache'; readonly url: URL }
  | { readonly id: NeighbourId; readonly kind: 'narswarm'; readonly addr?: string }

const NARSWARM = 'narswarm:'
const CACHE = 'cache:'

/** Base58 as libp2p prints it (a key's identity hash or its SHA-256), or a CID in base32 or base36. */
const PEER_ID = /^(?:12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|Qm[1-9A-HJ-NP-Za-km-z]{44}|[bk][0-9a-z]{50,79})$/

/** @throws RangeError that says what is expected */
export function parseNeighbour(text: string): NamedNeighbour {
  if (text.startsWith('/')) {
    const addr = checkPeerAddress(text)
    return { id: narswarmId(peerIdIn(addr)), kind: 'narswarm', addr }
  }
  const peerId = without(NARSWARM, text)
  if (PEER_ID.test(peerId)) return { id: narswarmId(peerId), kind: 'narswarm' }
  const url = cacheUrl(without(CACHE, text))
  return { id: cacheId(url), kind: 'cache', url }
}

export function narswarmId(peerId: string): NeighbourId {
  return `${NARSWARM}${peerId}`
}

/** @param url as `withSlash` makes it */
export function cacheId(url: URL): NeighbourId {
  return `${CACHE}${url.href}`
}

/** Known by its peer id, not by a URL alone. */
export function isNarswarmId(id: NeighbourId): boolean {
  return id.startsWith(NARSWARM)
}

/** As which sources it gives narinfos, blocks and NARs. */
export function sourcesOf(id: NeighbourId): ReturnType<typeof neighbourSources> {
  return neighbourSources(id.slice((isNarswarmId(id) ? NARSWARM : CACHE).length).replace(/\/$/, ''))
}

/** The base of a cache's routes: names are resolved below it, so it ends with a slash. */
export function withSlash(url: URL): URL {
  return url.pathname.endsWith('/') ? url : new URL(`${url.href}/`)
}

function without(prefix: string, text: string): string {
  return text.startsWith(prefix) ? text.slice(prefix.length) : text
}

function cacheUrl(text: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new RangeError(
      `expected http://host:port, a multiaddr that ends in /p2p/<peer id>, or a peer id, got ${quote(text)}`,
    )
  }
  // Shown and logged, so nothing in it may be a secret.
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new RangeError(`expected a URL without user name, password, ? and #, got one for ${url.host}`)
  }
  return withSlash(url)
}
