import { setTimeout as sleep } from 'node:timers/promises'
import type { Machine } from './machine.ts'

/** A line of `narswarm peer list --json`. */
export interface PeerLine {
  readonly id: string
  readonly kind: 'narswarm' | 'cache'
  /** Absent: never reached. */
  readonly url?: string
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
  const begun = performance.now()
  while (true) {
    const found = (await peerList(machine)).filter(({ state }) => state === 'ok')
    if (found.length >= count) return performance.now() - begun
    await sleep(50, undefined, { signal })
  }
}

/** Waits until it says so of the one with this address. */
export async function untilState(
  machine: Machine,
  { address }: Pick<Machine['host'], 'address'>,
  state: string,
  signal: AbortSignal,
): Promise<void> {
  while ((await peerList(machine)).every((one) => one.state !== state || hostOf(one) !== address)) {
    await sleep(200, undefined, { signal })
  }
}

/** The one with this address. */
export async function peerAt(machine: Machine, { address }: Machine['host']): Promise<PeerLine> {
  const peers = await peerList(machine)
  const found = peers.find((one) => hostOf(one) === address)
  if (found === undefined) throw new Error(`no peer at ${address}: ${JSON.stringify(peers)}`)
  return found
}

function hostOf({ url }: PeerLine): string | undefined {
  return url === undefined ? undefined : new URL(url).hostname
}
