import { BlockList, isIP, isIPv6 } from 'node:net'

/** Addresses of no host on the internet (RFC 6890 and successors): loopback, private, link-local, multicast, reserved. */
const PRIVATE = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['224.0.0.0', 4, 'ipv4'],
  ['240.0.0.0', 4, 'ipv4'],
  ['::', 96, 'ipv6'],
  ['64:ff9b::', 96, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
] as const

let list: BlockList | undefined

/** @param address an IP address; with or without the brackets of a URL */
export function isPrivateAddress(address: string): boolean {
  const bare = address.replace(/^\[(.*)\]$/, '$1')
  if (isIP(bare) === 0) throw new RangeError(`expected an IP address, got ${JSON.stringify(address)}`)
  if (list === undefined) {
    list = new BlockList()
    for (const [network, prefix, family] of PRIVATE) list.addSubnet(network, prefix, family)
  }
  return list.check(bare, isIPv6(bare) ? 'ipv6' : 'ipv4')
}

/** The IP address that a URL names as its host, without brackets. */
export function literalAddress(url: URL): string | undefined {
  const bare = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return isIP(bare) === 0 ? undefined : bare
}
