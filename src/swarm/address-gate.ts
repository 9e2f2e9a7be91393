import type { ConnectionGater } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { isLanAddress } from '../config/ip-address.ts'

/**
 * Only addresses of a LAN come in, and only they are dialled: what peers say of themselves (mDNS, identify) may name any
 * host on the internet.
 *
 * @param named multiaddrs that the user named, those that are added later too
 */
export function lanGate(named: ReadonlySet<string>): ConnectionGater {
  return {
    denyInboundConnection: ({ remoteAddr }) => !isInLan(remoteAddr),
    denyDialMultiaddr: (address) => !named.has(address.toString()) && !isInLan(address),
  }
}

/** A name is in no LAN: whoever told it says where it leads. */
function isInLan(address: Multiaddr): boolean {
  // Before the address may stand its zone.
  const host = address.getComponents().find(({ name }) => name !== 'ip6zone')
  if (host?.value === undefined || (host.name !== 'ip4' && host.name !== 'ip6')) return false
  return isLanAddress(host.value)
}
