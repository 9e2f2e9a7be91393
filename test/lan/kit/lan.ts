import type { Place } from '../../e2e/kit/place.ts'
import type { Stage } from '../../e2e/kit/stage.ts'
import { createNamespace, removeLeftNamespaces } from './namespace.ts'
import type { Namespace } from './namespace.ts'
import { openSockets } from './sockets.ts'
import type { Sockets } from './sockets.ts'

/** Hosts on one switch, in namespaces of their own: nothing of it reaches this machine's network. */
export interface Lan {
  /** @param name at most ten letters and digits */
  addHost(name: string): Promise<Host>
}

export interface Host extends Sockets {
  readonly name: string
  readonly address: string
  readonly address6: string
  /** For commands that are to run on it. */
  readonly place: Place
  /** `ip …` on it. */
  ip(...words: string[]): Promise<string>
  /** Its cable carries so much in each direction, and no longer what the kernel can copy. */
  limit(mbitPerSecond: { readonly up?: number; readonly down?: number }): Promise<void>
  /** Its cable is pulled out, or put in again. */
  unplug(): Promise<void>
  plug(): Promise<void>
  /** Of its cable, since it was made. */
  sentBytes(): Promise<number>
}

/** A home: a router hands out addresses, and is the way to all others. Here there is none that answers. */
const NETWORK = '192.168.77'
const NETWORK6 = 'fd77:6e61:7273::'
const ROUTER = `${NETWORK}.1`
const FIRST_HOST = 10
/** What may go out at once after a silence; a GSO packet of 64 KiB must fit. */
const BURST_BYTES = 128 * 1024

export async function openLan(stage: Stage): Promise<Lan> {
  await removeLeftNamespaces()
  const lan = await createNamespace('switch')
  stage.onEnd(() => lan.remove())
  // It floods multicast as a cheap switch does, and learns at once.
  await lan.ip('link', 'add', 'switch', 'type', 'bridge', 'mcast_snooping', '0', 'forward_delay', '0')
  await lan.ip('link', 'set', 'switch', 'up')
  let count = 0
  return {
    addHost(name) {
      return connectHost(stage, lan, name, FIRST_HOST + count++)
    },
  }
}

async function connectHost(stage: Stage, lan: Namespace, name: string, number: number): Promise<Host> {
  const port = `port${number}`
  const own = await createNamespace(name)
  const sockets = openSockets(stage, own)
  stage.onEnd(() => own.remove())
  const address = `${NETWORK}.${number}`
  const address6 = `${NETWORK6}${number.toString(16)}`
  await lan.ip('link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', own.name)
  await lan.ip('link', 'set', port, 'master', 'switch', 'up')
  await own.ip('address', 'add', `${address}/24`, 'broadcast', '+', 'dev', 'eth0')
  await own.ip('address', 'add', `${address6}/64`, 'dev', 'eth0', 'nodad')
  await own.ip('link', 'set', 'eth0', 'up')
  await own.ip('route', 'add', 'default', 'via', ROUTER)
  const shape = async (at: Namespace, device: string, mbit: number): Promise<void> => {
    const words = ['rate', `${mbit}mbit`, 'burst', String(BURST_BYTES), 'latency', '50ms']
    await at.tc('qdisc', 'replace', 'dev', device, 'root', 'tbf', ...words)
  }
  return {
    ...sockets,
    name,
    address,
    address6,
    place: own.place,
    ip: (...words) => own.ip(...words),
    async limit({ up, down }) {
      if (up !== undefined) await shape(own, 'eth0', up)
      if (down !== undefined) await shape(lan, port, down)
    },
    async unplug() {
      await lan.ip('link', 'set', port, 'down')
    },
    async plug() {
      await lan.ip('link', 'set', port, 'up')
    },
    async sentBytes() {
      const [link] = JSON.parse(await lan.ip('-json', '-statistics', 'link', 'show', port)) as [
        { stats64: { rx: { bytes: number } } },
      ]
      return link.stats64.rx.bytes
    },
  }
}
