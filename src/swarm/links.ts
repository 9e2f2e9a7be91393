/** The networks of this machine that neighbours are looked for on. */
import { BlockList, isIP } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import { isLanAddress } from '../config/ip-address.ts'

export interface Link {
  /** Of the interface, such as `eth0`. */
  readonly name: string
  /** What others on it may be told and may tell: its private addresses; link-local ones of IPv6 need a zone, and are left out. */
  readonly addresses: readonly string[]
  /** Any of its own, for the sockets; absent: it does not speak that version of IP. */
  readonly ip4?: string
  readonly ip6?: true
  /** Whether a private address is one of this very link: no router is between it and us. */
  has(address: string): boolean
}

export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/**
 * @param names the only ones to be taken, loopback among them when it is named; none: all but loopback
 */
export function chooseLinks(interfaces: Interfaces, names?: readonly string[]): Link[] {
  return Object.entries(interfaces).flatMap(([name, infos = []]) => {
    const isChosen = names === undefined ? infos.every(({ internal }) => !internal) : names.includes(name)
    return isChosen ? [linkOf(name, infos)] : []
  })
}

function linkOf(name: string, infos: readonly NetworkInterfaceInfo[]): Link {
  const subnets = new BlockList()
  const addresses: string[] = []
  for (const { address, cidr } of infos) {
    const prefix = Number(cidr?.split('/')[1])
    if (!Number.isInteger(prefix) || !isLanAddress(address) || /^fe[89ab]/i.test(address)) continue
    subnets.addSubnet(address, prefix, familyOf(address))
    addresses.push(address)
  }
  const ip4 = infos.find(({ address }) => isIP(address) === 4)?.address
  return {
    name,
    addresses,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(infos.some(({ address }) => isIP(address) === 6) ? { ip6: true } : {}),
    // One with a zone is link-local, and BlockList takes none.
    has: (address) =>
      isIP(address) !== 0 && !address.includes('%') && subnets.check(address, familyOf(address)),
  }
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}
