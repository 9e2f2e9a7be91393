import { isIP } from 'node:net'
import { isLoopbackAddress } from './ip-address.ts'

export interface HostPort {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

/** `127.0.0.1:6277`, `[::1]:6277`. @throws RangeError */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]{1,5})$/i.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  if (isIP(host) !== (match?.[1] === undefined ? 4 : 6) || !(port <= 65_535)) {
    throw new RangeError(
      `expected an IP address and port such as 127.0.0.1:6277 or [::1]:6277, got ${shown(text)}`,
    )
  }
  return { host, port }
}

export function formatHostPort({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}

const TCP = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]{1,253})\/tcp\/([0-9]{1,5})(?:\/(.{1,253}))?$/
/** Base58 as libp2p prints it, or a CID. */
const PEER_ID = /^p2p\/[0-9A-Za-z]{32,80}$/

/**
 * A libp2p address to listen at: an IP address and a TCP port, the only transport there is here.
 * @throws RangeError
 */
export function checkListenAddress(text: string): string {
  const [, protocol, host = '', port, rest] = TCP.exec(text) ?? []
  const isAddress = (protocol === 'ip4' && isIP(host) === 4) || (protocol === 'ip6' && isIP(host) === 6)
  if (!isAddress || !(Number(port) <= 65_535) || rest !== undefined) {
    throw new RangeError(`expected a multiaddr such as /ip4/0.0.0.0/tcp/6279, got ${shown(text)}`)
  }
  return text
}

/**
 * The libp2p address of a peer, with its id: without, we could not know whether we reached it.
 * @throws RangeError
 */
export function checkPeerAddress(text: string): string {
  const [, protocol = '', host = '', port, rest = ''] = TCP.exec(text) ?? []
  const family = isIP(host)
  const isHost =
    protocol === 'ip4' ? family === 4 : protocol === 'ip6' ? family === 6 : /^[0-9A-Za-z._-]+$/.test(host)
  if (!isHost || !(Number(port) >= 1 && Number(port) <= 65_535) || !PEER_ID.test(rest)) {
    throw new RangeError(`expected a multiaddr such as /dns/host/tcp/6279/p2p/<peer id>, got ${shown(text)}`)
  }
  return text
}

/** Whether `url` leads to our own listener at `own`: to ask there would be to ask ourselves. */
export function isOurs(url: URL, own: HostPort): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const port = url.port === '' ? { 'http:': 80, 'https:': 443 }[url.protocol] : Number(url.port)
  return port === own.port && (host === 'localhost' || (isIP(host) !== 0 && isLoopbackAddress(host)))
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
}
