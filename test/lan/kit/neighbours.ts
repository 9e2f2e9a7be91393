import { setTimeout as sleep } from 'node:timers/promises'
import type { Machine } from './machine.ts'

/** A line of `narswarm peer list --json`. */
export interface PeerLine {
  readonly id: string
  readonly kind: 'narswarm' | 'cache'
  readonly url: string
  readonly from: 'config' | 'mdns' | 'added'
  readonly state: string
  readonly reason?: string
}

export async function peerList({ narswarm }: Machine): Promise<PeerLine[]> {
  const { peers } = JSON.parse(await narswarm.cli('peer', 'list', '--json')) as { peers: PeerLine[] }
  return peers
}

/** Waits until it has found so many. @returns milliseconds that it took */
export async function untilFound(machine: Machine, count: number, signal: AbortSignal): Promise<number> {
  if (process.env.NODISC) return 0
  const begun = performance.now()
  while (true) {
    const found = (await peerList(machine)).filter(({ state }) => state === 'ok')
    if (found.length >= count) return performance.now() - begun
    await sleep(50, undefined, { signal })
  }
}

/** The one with this address. */
export async function peerAt(machine: Machine, { address }: Machine['host']): Promise<PeerLine> {
  const peers = await peerList(machine)
  const found = peers.find(({ url }) => new URL(url).hostname === address)
  if (found === undefined) throw new Error(`no peer at ${address}: ${JSON.stringify(peers)}`)
  return found
}
