/**
 * The packets of libp2p's mDNS (specs: discovery/mdns.md) under our own service name: who asks for the service gets a PTR to a
 * name nobody reads, and with it a TXT record of that name with one `dnsaddr=<multiaddr>` for each address.
 */
import { decode, encode } from 'dns-packet'
import type { Packet } from 'dns-packet'
import {
  MDNS_ADVERT_ADDRESSES_COUNT,
  MDNS_ADVERTS_PER_PACKET_COUNT,
  MDNS_PACKET_MAX_BYTES,
  MDNS_TTL_S,
} from '../limits.ts'

export interface Advert {
  readonly peerId: string
  readonly addresses: readonly Advertised[]
}

export interface Advertised {
  /** IP address. */
  readonly host: string
  /** TCP port of libp2p. */
  readonly port: number
}

export type MdnsMessage =
  { readonly kind: 'query' } | { readonly kind: 'adverts'; readonly adverts: readonly Advert[] }

const SERVICE = '_narswarm._udp.local'
const PREFIX = 'dnsaddr='
/** What RFC 1035 lets a string of a TXT record have. */
const TXT_STRING_MAX_BYTES = 255
const LABEL = Buffer.from('_narswarm')
const AUTHORITATIVE = 1 << 10

export function formatQuery(): Uint8Array {
  return encode({ type: 'query', questions: [{ name: SERVICE, type: 'PTR' }] })
}

/** @param name of this peer in the service, up to 63 characters; says nothing, and stays the same while we run */
export function formatAdvert(name: string, { peerId, addresses }: Advert): Uint8Array {
  const data = addresses
    .slice(0, MDNS_ADVERT_ADDRESSES_COUNT)
    .map((address) => PREFIX + formatAddress(address, peerId))
    .filter((text) => text.length <= TXT_STRING_MAX_BYTES)
  const full = `${name}.${SERVICE}`
  return encode({
    type: 'response',
    flags: AUTHORITATIVE,
    answers: [{ name: SERVICE, type: 'PTR', ttl: MDNS_TTL_S, data: full }],
    additionals: [{ name: full, type: 'TXT', ttl: MDNS_TTL_S, data }],
  })
}

/** Multiaddr with the peer id. */
export function formatAddress({ host, port }: Advertised, peerId: string): string {
  return `/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}/p2p/${peerId}`
}

/** Whether it may say anything about our service: what a LAN is full of is not even decoded. */
export function mayBeOurs(bytes: Buffer): boolean {
  // No compression hides the first label.
  return bytes.byteLength <= MDNS_PACKET_MAX_BYTES && bytes.includes(LABEL)
}

/**
 * What a packet says about our service; undefined for all else, were it malformed. Never throws: anybody may send anything.
 * One address that makes no sense does not take the others with it.
 */
export function parsePacket(bytes: Buffer): MdnsMessage | undefined {
  if (!mayBeOurs(bytes)) return undefined
  let packet: Packet
  try {
    packet = decode(bytes)
  } catch {
    return undefined
  }
  if (packet.type === 'query') {
    const asked = packet.questions?.some(
      ({ name, type }) => isService(name) && (type === 'PTR' || (type as string) === 'ANY'),
    )
    return asked === true ? { kind: 'query' } : undefined
  }
  const peers = new Map<string, Advertised[]>()
  for (const record of [...(packet.answers ?? []), ...(packet.additionals ?? [])]) {
    // A time to live of 0 is a farewell (RFC 6762, 10.1). Anybody can send it in another's name: whether it is gone, HTTP says.
    if (record.type !== 'TXT' || record.ttl === 0 || !record.name.toLowerCase().endsWith(`.${SERVICE}`))
      continue
    for (const text of [record.data].flat().map(String)) {
      const told = parseAddress(text)
      if (told === undefined) continue
      const addresses = peers.get(told.peerId) ?? []
      if (addresses.length === 0 && peers.size >= MDNS_ADVERTS_PER_PACKET_COUNT) continue
      if (addresses.length < MDNS_ADVERT_ADDRESSES_COUNT) addresses.push(told.address)
      peers.set(told.peerId, addresses)
    }
  }
  if (peers.size === 0) return undefined
  return { kind: 'adverts', adverts: [...peers].map(([peerId, addresses]) => ({ peerId, addresses })) }
}

const ADDRESS =
  /^dnsaddr=\/(?:ip4|ip6)\/([0-9a-f.:]{2,45})\/tcp\/([1-9][0-9]{0,4})\/p2p\/([0-9A-Za-z]{32,80})$/

function parseAddress(text: string): { peerId: string; address: Advertised } | undefined {
  const [, host, port, peerId] = ADDRESS.exec(text) ?? []
  if (host === undefined || peerId === undefined || Number(port) > 65_535) return undefined
  return { peerId, address: { host, port: Number(port) } }
}

function isService(name: string): boolean {
  return name.toLowerCase() === SERVICE
}
