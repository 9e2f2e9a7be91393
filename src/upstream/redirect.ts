import { lookup as dnsLookup, type LookupAddress, type LookupOptions } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { isPrivateAddress, literalAddress } from '../config/ip-address.ts'

/** A redirect that is not followed. */
export class RedirectError extends Error {
  override readonly name = 'RedirectError'
}

/** node:dns' lookup, as far as it is used. */
export type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

export interface RedirectTarget {
  url: URL
  /** Same host as the cache: no more can be reached there than the user configured. */
  sameHost: boolean
}

/**
 * Where a redirect may lead (security T14, H11): within the origin, from http to https on the same host, or from
 * https to https. `base` is the cache that the user configured, not the last hop.
 * @throws RedirectError
 */
export function redirectTarget(base: URL, from: URL, location: string): RedirectTarget {
  const url = URL.parse(location, from.href)
  if (url === null) throw new RedirectError(`redirected to ${shown(location)}, which is no URL`)
  url.hash = ''
  if (url.username !== '' || url.password !== '')
    throw new RedirectError('redirected to a URL with credentials')
  if (url.origin === base.origin) return { url, sameHost: true }
  if (url.protocol !== 'https:')
    throw new RedirectError(`redirected from ${base.origin} to ${shown(location)}`)
  if (url.hostname === base.hostname) return { url, sameHost: true }
  if (base.protocol !== 'https:')
    throw new RedirectError(`redirected from ${base.origin} to ${shown(location)}`)
  return { url, sameHost: false }
}

/**
 * A look-up for connections to hosts that a redirect named: it refuses names with a private address, at the very
 * moment of connecting, so that no second answer of the DNS can slip in.
 */
export function publicLookup(lookup: Lookup = dnsLookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      const hidden = addresses?.find(({ address }) => isPrivateAddress(address))
      const [first] = addresses ?? []
      if (error !== null) callback(error, [])
      else if (hidden !== undefined) {
        callback(
          new RedirectError(`redirected to ${hostname}, whose address ${hidden.address} is private`),
          [],
        )
      } else if (options.all === true || first === undefined) callback(null, addresses)
      else callback(null, first.address, first.family)
    })
  }
}

/** Whether the user's own cache is in a private network; then it may redirect within that. */
export async function isPrivateHost(url: URL, lookup: Lookup = dnsLookup): Promise<boolean> {
  const literal = literalAddress(url)
  if (literal !== undefined) return isPrivateAddress(literal)
  const { promise, resolve } = Promise.withResolvers<LookupAddress[]>()
  // A name that has no address at all is not known to be private.
  lookup(url.hostname, { all: true }, (error, addresses) => resolve(error === null ? addresses : []))
  return (await promise).some(({ address }) => isPrivateAddress(address))
}

/** The host that a redirect names is an address itself, so that no look-up will judge it. */
export function checkLiteral(url: URL): void {
  const literal = literalAddress(url)
  if (literal !== undefined && isPrivateAddress(literal)) {
    throw new RedirectError(`redirected to the private address ${literal}`)
  }
}

/** Without its query, which may be a signed permission. */
function shown(location: string): string {
  const text = location.replace(/\?.*/s, '?…')
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
