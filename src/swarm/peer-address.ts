import { multiaddr } from '@multiformats/multiaddr'

/** The peer id at the end of a multiaddr. @throws RangeError when it is no multiaddr, or none that ends in one */
export function peerIdIn(address: string): string {
  const shown = JSON.stringify(address.slice(0, 80))
  let last
  try {
    last = multiaddr(address).getComponents().at(-1)
  } catch (cause) {
    throw new RangeError(`expected a multiaddr, got ${shown}`, { cause })
  }
  if (last?.name !== 'p2p' || last.value === undefined) {
    throw new RangeError(`expected a multiaddr that ends in /p2p/<peer id>, got ${shown}`)
  }
  return last.value
}
