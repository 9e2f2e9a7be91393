import { randomBytes } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import type { Libp2p } from '@libp2p/interface'
import { formatHostPort } from '../config/address.ts'
import { isLanAddress, isLoopbackAddress } from '../config/ip-address.ts'
import { DIAL_REST_FLOOR_MS, HELLO_TOLD_MAX_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { createDialBook } from './dial-book.ts'
import type { Dial } from './dial-book.ts'
import { createGreeter } from './greeter.ts'
import type { Met } from './greeter.ts'
import type { Hello } from './hello.ts'
import { chooseLinks } from './links.ts'
import type { Link } from './links.ts'
import { formatAddress } from './mdns-packet.ts'
import type { Advertised } from './mdns-packet.ts'
import { startMdns } from './mdns.ts'
import type { Mdns } from './mdns.ts'
import { peerIdIn } from './peer-address.ts'
import type { DiscoverConfig } from './worker-protocol.ts'

export interface Discovery {
  /** Begins to answer and to look for others; once. */
  start(config: DiscoverConfig): void
  /** Multiaddrs to be greeted although nobody is heard there; all others that were named before are not any more. */
  name(addresses: readonly string[]): void
  stop(): Promise<void>
}

/**
 * Finds narswarms: who is heard by mDNS or was named by a multiaddr is dialled, proves its peer id, and says where its peer
 * listener is.
 *
 * @param deps.onMet told of one that is for our store
 */
export async function createDiscovery(deps: {
  readonly libp2p: Libp2p
  readonly listen: readonly string[]
  readonly onMet: (peerId: string, url: string) => void
  /** Filled with what was named: wherever that is, it may be dialled. */
  readonly named: Set<string>
  readonly log: Log
}): Promise<Discovery> {
  const { libp2p, log } = deps
  const stopwatch = (): number => performance.now()
  const controller = new AbortController()
  const book = createDialBook({ stopwatch })
  const told = new Set<string>()
  let own: Hello | undefined
  let interfaces: readonly string[] | undefined
  let mdns: Mdns | undefined
  let timer: NodeJS.Timeout | undefined

  const links = (): Link[] => chooseLinks(networkInterfaces(), interfaces)

  const met = ({ peerId, host, hello }: Met): void => {
    book.met(peerId)
    if (own === undefined || hello.http === 0) return
    if (hello.storeDir !== own.storeDir) {
      if (told.size < HELLO_TOLD_MAX_COUNT && !told.has(peerId)) {
        told.add(peerId)
        log.info(
          { peer: peerId, storeDir: hello.storeDir },
          'a narswarm for another store is no neighbour of ours',
        )
      }
      return
    }
    deps.onMet(peerId, `http://${formatHostPort({ host, port: hello.http })}/`)
  }

  const greeter = await createGreeter({
    libp2p,
    own: () => own,
    mayAsk: (host) =>
      interfaces === undefined
        ? isLanAddress(host) && !isLoopbackAddress(host)
        : links().some((link) => link.has(host)),
    onMet: met,
    stopwatch,
    log,
  })

  const name = (addresses: readonly string[]): void => {
    for (const address of addresses) deps.named.add(address)
    book.name(addresses.map(withPeerId))
    turn()
  }

  const greet = async (dial: Dial): Promise<void> => {
    try {
      const one = await greeter.greet(dial.address, { signal: controller.signal })
      dial.done(true)
      met(one)
    } catch (error) {
      log.debug({ address: dial.address }, `no neighbour there: ${messageOf(error)}`)
      dial.done(false)
    }
    turn()
  }
  const turn = (): void => {
    if (controller.signal.aborted) return
    clearTimeout(timer)
    for (let dial = book.next(); dial !== undefined; dial = book.next()) void greet(dial)
    timer = setTimeout(turn, DIAL_REST_FLOOR_MS)
    timer.unref()
  }

  libp2p.addEventListener('peer:disconnect', ({ detail }) => book.gone(detail.toString()))

  return {
    start(config) {
      own = { version: 1, ...config.hello }
      interfaces = config.interfaces
      if (config.mdns !== undefined) {
        mdns = startMdns(
          {
            links,
            addressesOn: (link) => reachedAt(link, deps.listen, libp2p.getMultiaddrs().map(String)),
            onAdvert({ peerId, addresses }, sender) {
              book.heard(
                peerId,
                addresses.map((one) => formatAddress(one, peerId)),
                sender,
              )
              turn()
            },
            random: Math.random,
            stopwatch,
            log,
          },
          {
            peerId: libp2p.peerId.toString(),
            name: randomBytes(NAME_BYTES).toString('hex'),
            ...config.mdns,
          },
        )
      }
      name(config.named)
    },
    name,
    async stop() {
      controller.abort()
      clearTimeout(timer)
      await mdns?.close()
    },
  }
}

/** As long as libp2p's specification wants it. */
const NAME_BYTES = 16

function withPeerId(address: string): { peerId: string; address: string } {
  return { peerId: peerIdIn(address), address }
}

const LISTEN = /^\/(ip4|ip6)\/([^/]+)\/tcp\/([0-9]+)/

/**
 * @param listen multiaddrs to listen at, wildcards and port 0 among them
 * @param bound those that it became
 */
function reachedAt(link: Link, listen: readonly string[], bound: readonly string[]): Advertised[] {
  const parse = (text: string): { family?: string; host?: string; port: number } => {
    const [, family, host, port] = LISTEN.exec(text) ?? []
    return {
      ...(family === undefined ? {} : { family }),
      ...(host === undefined ? {} : { host }),
      port: Number(port),
    }
  }
  const listening = bound.map(parse)
  return listen.map(parse).flatMap(({ family, host, port }) => {
    // Without IPv6 on this machine there is nothing of that family; the wildcard's port is that of any of its addresses.
    const same = listening.filter((one) => one.family === family)
    const actual = same.find((one) => port === 0 || one.port === port)?.port
    if (actual === undefined) return []
    return link.addresses
      .filter((address) => address.includes(':') === (family === 'ip6'))
      .filter((address) => host === '0.0.0.0' || host === '::' || host === address)
      .map((address) => ({ host: address, port: actual }))
  })
}
