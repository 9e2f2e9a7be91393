import { quote } from '../nix/quote.ts'

/** A dot segment in any of its spellings, or a backslash, which a URL parser takes for a slash. */
const LEADS_UP = /\\|(?:^|\/)(?:\.|%2e){1,2}(?:[/?#]|$)/i

/**
 * The file that a narinfo's URL field names: relative to the cache, by RFC 3986 as Nix does since 2.32
 * (nix-protocol A5), query kept. Nix would follow it anywhere; we fetch on behalf of others and stay inside the cache
 * (security A12).
 * @param base the cache's own URL, ending with a slash
 * @throws RangeError
 */
export function narUrl(base: URL, text: string): URL {
  const url = LEADS_UP.test(text) ? null : URL.parse(text, base.href)
  const inside =
    url !== null &&
    url.protocol === base.protocol &&
    url.host === base.host &&
    url.username === '' &&
    url.password === '' &&
    url.pathname.startsWith(base.pathname) &&
    url.pathname !== base.pathname
  if (!inside) {
    const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
    throw new RangeError(`URL: expected a file below ${base.href}, got ${shown}`)
  }
  url.hash = ''
  return url
}

/**
 * A file that is asked for by its own name, each segment escaped: a derivation's name may hold a `?`.
 * @throws RangeError
 */
export function fileUrl(base: URL, name: string): URL {
  const segments = name.split('/')
  if (segments.some((one) => one === '' || one === '.' || one === '..')) {
    throw new RangeError(`expected the name of a file of a cache, got ${quote(name)}`)
  }
  return narUrl(base, segments.map((one) => encodeURIComponent(one.toWellFormed())).join('/'))
}
