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

/** Where the machines of a house or an office are: RFC 1918, loopback, link-local, unique local, and what carriers and VPNs use. */
const LAN = [
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['::1', 128, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
] as const

/** This machine, by whatever way. */
const LOOPBACK = [
  ['127.0.0.0', 8, 'ipv4'],
  ['::1', 128, 'ipv6'],
] as const

type Networks = readonly (readonly [string, number, 'ipv4' | 'ipv6'])[]
const lists = new Map<Networks, BlockList>()

/** @param address an IP address; with or without the brackets of a URL */
export function isPrivateAddress(address: string): boolean {
  return isIn(address, PRIVATE)
}

/** @param address an IP address; with or without the brackets of a URL, and with or without a zone */
export function isLanAddress(address: string): boolean {
  return isIn(address, LAN)
}

function isIn(address: string, networks: Networks): boolean {
  const bare = bareAddress(address)
  if (isIP(bare) === 0) throw new RangeError(`expected an IP address, got ${JSON.stringify(address)}`)
  let list = lists.get(networks)
  if (list === undefined) {
    list = new BlockList()
    for (const [network, prefix, family] of networks) list.addSubnet(network, prefix, family)
    lists.set(networks, list)
  }
  // An IPv4 address in IPv6 notation is looked for among those of IPv4.
  return list.check(bare, isIPv6(bare) ? 'ipv6' : 'ipv4')
}

/** The IP address that a URL names as its host, without brackets. */
export function literalAddress(url: URL): string | undefined {
  const bare = bareAddress(url.hostname)
  return isIP(bare) === 0 ? undefined : bare
}

/** @param address an IP address; with or without the brackets of a URL */
export function isLoopbackAddress(address: string): boolean {
  return isIn(address, LOOPBACK)
}

/** Whether a URL names this machine as its host, as `localhost` does by definition (RFC 6761, 6.3). Nothing is looked up. */
export function isLoopbackUrl(url: URL): boolean {
  const address = literalAddress(url)
  return address === undefined ? /^(?:.+\.)?localhost\.?$/.test(url.hostname) : isLoopbackAddress(address)
}

/**
 * What counts as one machine: an IPv4 address, also in IPv6 notation; an IPv6 address in a LAN; elsewhere its /64, of which
 * any subscriber has all addresses.
 */
export function hostKey(address: string): string {
  const bare = bareAddress(address)
  const [, mapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare) ?? []
  if (mapped !== undefined) return mapped
  if (!isIPv6(bare) || isLanAddress(bare)) return bare
  const [head = '', tail] = bare.split('::')
  const groups = head === '' ? [] : head.split(':')
  const behind = tail === undefined || tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0)
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - behind)
  const all = [...groups, ...Array.from({ length: zeros }, () => '0'), ...(tail ?? '').split(':')]
  return `${all.slice(0, 4).join(':')}::/64`
}

function bareAddress(text: string): string {
  return text.replace(/^\[(.*)\]$/, '$1').replace(/%.*$/, '')
}
