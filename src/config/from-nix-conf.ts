/** What is taken over from nix.conf where the configuration says nothing: whom this machine asks and trusts already. */
import { messageOf } from '../log.ts'
import type { PublicKey } from '../nix/key.ts'
import { parsePublicKey } from '../nix/key.ts'
import { isOurs } from './address.ts'
import type { HostPort } from './address.ts'
import { NIXOS_CACHE } from './schema.ts'

/** cache.nixos.org's own, for substituters without `?priority=`. */
const USUAL_PRIORITY = 40

/** Our own listener is taken out: Nix asks us, and we must not ask ourselves. */
export function upstreamsOf(
  substituters: readonly string[],
  own: HostPort,
  warn: (text: string) => void,
): URL[] {
  const found: { url: URL; priority: number }[] = []
  let ourselves = false
  for (const text of substituters) {
    const url = URL.parse(text)
    if (url !== null && isOurs(url, own)) ourselves = true
    else if (url === null || !['http:', 'https:', 'file:'].includes(url.protocol)) {
      warn(`a substituter of nix.conf is left to Nix: ${reasonAgainst(url, text)}`)
    } else if (url.username !== '' || url.password !== '') {
      warn(
        `a substituter of nix.conf is left to Nix: the URL for ${url.host} has a user name or password in it`,
      )
    } else {
      const priority = url.searchParams.get('priority') ?? ''
      // The other settings of a store, such as ?trusted=, are for Nix.
      url.search = ''
      url.hash = ''
      found.push({ url, priority: /^[0-9]{1,9}$/.test(priority) ? Number(priority) : USUAL_PRIORITY })
    }
  }
  // Who names us alone still wants packages from somewhere; who names nobody wants none.
  if (found.length === 0 && ourselves) return [new URL(NIXOS_CACHE)]
  return found.sort((a, b) => a.priority - b.priority).map(({ url }) => url)
}

function reasonAgainst(url: URL | null, text: string): string {
  // An s3 URL may have keys in it.
  const kind =
    url === null ? JSON.stringify(text.slice(0, 80)) : `a store of kind ${url.protocol.slice(0, -1)}`
  return `${kind}; only http, https and file can be asked from here`
}

/** Of two keys of one name the first counts, as for Nix. */
export function keysOf(texts: readonly string[], warn: (text: string) => void): PublicKey[] {
  const keys = new Map<string, PublicKey>()
  for (const text of texts) {
    try {
      const key = parsePublicKey(text)
      if (keys.has(key.name))
        warn(`nix.conf has two trusted-public-keys named ${key.name}: the first one counts`)
      else keys.set(key.name, key)
    } catch (error) {
      warn(`a trusted-public-key of nix.conf is left out: ${messageOf(error)}`)
    }
  }
  if (keys.size === 0) warn('nix.conf has no trusted-public-keys that can be used: nothing will be passed on')
  return [...keys.values()]
}
