import { createSocket } from 'node:dgram'
import type { RemoteInfo, Socket } from 'node:dgram'
import {
  LINKS_LOOK_MS,
  MDNS_ANSWER_DELAY_MS,
  MDNS_ANSWER_PAUSE_MS,
  MDNS_PACKETS_PER_SECOND,
  MDNS_QUERY_PAUSES_MS,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { Link } from './links.ts'
import { formatAdvert, formatQuery, mayBeOurs, parsePacket } from './mdns-packet.ts'
import type { Advert, Advertised } from './mdns-packet.ts'
import { createRate } from './rate.ts'

export interface Mdns {
  close(): Promise<void>
}

export interface MdnsDeps {
  /** Looked at again and again: laptops move. */
  readonly links: () => readonly Link[]
  /** Where we are reached by those on this link; none: we only ask. */
  readonly addressesOn: (link: Link) => readonly Advertised[]
  /** Addresses are of the link that it came by. @param sender its IP address, as far as that can be believed */
  readonly onAdvert: (advert: Advert, sender: string) => void
  readonly random: () => number
  readonly stopwatch: () => number
  readonly log: Log
}

/** RFC 6762. Tests use another port: that of the machine is shared by all who speak mDNS on it. */
const MDNS_PORT = 5353
const GROUPS = { udp4: '224.0.0.251', udp6: 'ff02::fb' } as const
type Family = keyof typeof GROUPS

/** Where packets of a link go out and come in. */
interface Place {
  readonly family: Family
  readonly at: string
}

/**
 * Asks for narswarms on each link and answers those that ask, by IPv4 and IPv6. Both at start, so that none waits for the
 * other's next turn. Never throws: a link that takes no packet is a link without neighbours.
 *
 * One socket for each version of IP, since the kernel gives packets of any link to every socket with this port; which link one
 * came by is told by its sender's address, and what is not of a link is dropped (RFC 6762, 11).
 */
export function startMdns(
  deps: MdnsDeps,
  config: { readonly peerId: string; readonly name: string; readonly port?: number },
): Mdns {
  const { addressesOn, onAdvert, random, stopwatch, log } = deps
  const { peerId, name, port = MDNS_PORT } = config
  const sockets = new Map<Family, Promise<Socket | undefined>>()
  /** By version of IP and place: what the group was joined with. */
  const joined = new Map<string, Place>()
  const answeredAt = new Map<string, number>()
  const timers = new Set<NodeJS.Timeout>()
  const packets = createRate(
    { perSecond: MDNS_PACKETS_PER_SECOND, burst: MDNS_PACKETS_PER_SECOND },
    stopwatch,
  )
  let links: readonly Link[] = []
  let shown = ''
  let asked = 0
  let nextQuery: NodeJS.Timeout | undefined
  let isClosed = false
  /** The way out of a socket is set before each packet, so one packet goes at a time. */
  let sending: Promise<void> = Promise.resolve()

  const later = (ms: number, work: () => void): NodeJS.Timeout => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      work()
    }, ms)
    timer.unref()
    timers.add(timer)
    return timer
  }

  const socketOf = (family: Family): Promise<Socket | undefined> => {
    let socket = sockets.get(family)
    if (socket === undefined) {
      socket = open(family)
      sockets.set(family, socket)
    }
    return socket
  }

  const open = (family: Family): Promise<Socket | undefined> =>
    new Promise((resolve) => {
      const socket = createSocket({ type: family, reuseAddr: true, ipv6Only: family === 'udp6' })
      socket.once('error', (error) => {
        log.warn({ err: error }, `neighbours are not looked for over ${family}: ${messageOf(error)}`)
        socket.close()
        resolve(undefined)
      })
      socket.bind(port, () => {
        socket.removeAllListeners('error')
        socket.on('error', (error) => log.debug({ err: error }, `mdns over ${family}: ${messageOf(error)}`))
        socket.on('message', (message, from) => receive(message, from))
        socket.setMulticastTTL(255)
        socket.setMulticastLoopback(true)
        resolve(socket)
      })
    })

  const places = (link: Link): Place[] => [
    ...(link.ip4 === undefined ? [] : [{ family: 'udp4' as const, at: link.ip4 }]),
    ...(link.ip6 === undefined ? [] : [{ family: 'udp6' as const, at: `::%${link.name}` }]),
  ]

  const join = async (wanted: readonly Link[]): Promise<void> => {
    const now = new Map(wanted.flatMap(places).map((place) => [`${place.family} ${place.at}`, place]))
    for (const [key, { family, at }] of joined) {
      if (now.has(key)) continue
      joined.delete(key)
      const socket = await socketOf(family)
      // With the interface its membership went.
      attempt(() => socket?.dropMembership(GROUPS[family], at))
    }
    for (const [key, { family, at }] of now) {
      if (joined.has(key)) continue
      const socket = await socketOf(family)
      if (isClosed || socket === undefined) continue
      attempt(() => {
        socket.addMembership(GROUPS[family], at)
        joined.set(key, { family, at })
      })
    }
  }

  const attempt = (work: () => void, failed?: () => void): void => {
    try {
      work()
    } catch (error) {
      log.debug({ err: error }, `mdns: ${messageOf(error)}`)
      failed?.()
    }
  }

  const sendTo = async ({ family, at }: Place, packet: Uint8Array): Promise<void> => {
    const socket = await socketOf(family)
    if (isClosed || socket === undefined) return
    await new Promise<void>((resolve) => {
      attempt(() => {
        socket.setMulticastInterface(at)
        socket.send(packet, port, GROUPS[family], (error) => {
          if (error !== null) log.debug({ err: error, at }, `mdns: ${messageOf(error)}`)
          resolve()
        })
      }, resolve)
    })
  }
  const send = (link: Link, packet: Uint8Array): void => {
    const before = sending
    const all = async (): Promise<void> => {
      await before
      for (const place of places(link)) await sendTo(place, packet)
    }
    sending = all()
  }

  const announce = (link: Link): void => {
    const addresses = addressesOn(link)
    if (addresses.length === 0) return
    answeredAt.set(link.name, stopwatch())
    send(link, formatAdvert(name, { peerId, addresses }))
  }

  const query = (): void => {
    for (const link of links) send(link, formatQuery())
    // The first announcement may be lost too.
    if (asked < 2) for (const link of links) announce(link)
    const pauseMs = MDNS_QUERY_PAUSES_MS[asked] ?? MDNS_QUERY_PAUSES_MS.at(-1)
    asked += 1
    nextQuery = later(pauseMs ?? LINKS_LOOK_MS, query)
  }

  /** Asked by many at once it answers once; those that asked within the pause get it at its end. */
  const answer = (link: Link): void => {
    const since = stopwatch() - (answeredAt.get(link.name) ?? -Infinity)
    if (since < 0) return
    const waitMs = Math.max(random() * MDNS_ANSWER_DELAY_MS, MDNS_ANSWER_PAUSE_MS - since)
    // In the future: one is on its way.
    answeredAt.set(link.name, stopwatch() + waitMs)
    later(waitMs, () => announce(link))
  }

  const receive = (message: Buffer, from: RemoteInfo): void => {
    // Answers from other ports are to be ignored, and so are questions of those who are no mDNS (RFC 6762, 6 and 6.7).
    if (from.port !== port) return
    const sender = from.address
    const link = links.find(
      (one) => one.has(sender) || (sender.startsWith('fe80:') && sender.endsWith(`%${one.name}`)),
    )
    if (link === undefined) return
    if (!mayBeOurs(message) || packets.take(1, 0) === undefined) return
    const said = parsePacket(message)
    if (said === undefined) return
    if (said.kind === 'query') {
      answer(link)
      return
    }
    for (const advert of said.adverts) {
      if (advert.peerId === peerId) continue
      const addresses = advert.addresses.filter(({ host }) => link.has(host))
      if (addresses.length > 0) onAdvert({ peerId: advert.peerId, addresses }, sender)
    }
  }

  const begin = async (wanted: readonly Link[]): Promise<void> => {
    await join(wanted)
    if (isClosed) return
    clearTimeout(nextQuery)
    asked = 0
    query()
  }

  const look = (): void => {
    const found = deps.links()
    const text = JSON.stringify(found)
    links = found
    if (text !== shown) {
      shown = text
      log.debug({ links: found.map((link) => link.name) }, 'neighbours are looked for on these links')
      void begin(found)
    }
    later(LINKS_LOOK_MS, look)
  }

  look()
  return {
    async close() {
      isClosed = true
      for (const timer of timers) clearTimeout(timer)
      await sending
      for (const opened of sockets.values()) {
        const socket = await opened
        if (socket !== undefined) await new Promise<void>((resolve) => socket.close(resolve))
      }
    },
  }
}
