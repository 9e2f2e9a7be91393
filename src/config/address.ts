import { BlockList, isIP } from 'node:net'

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
  if (isIP(host) === 0 || !(port <= 65_535)) {
    throw new RangeError(
      `expected an IP address and port such as 127.0.0.1:6277 or [::1]:6277, got ${JSON.stringify(text.slice(0, 80))}`,
    )
  }
  return { host, port }
}

export function formatHostPort({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(host: string): boolean {
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8)
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4')
}
