import { setTimeout as sleep } from 'node:timers/promises'
import type { PeerReport } from '../../../src/operations/peers.ts'
import type { Host } from './lan.ts'
import type { Machine } from './machine.ts'

const POLL_MS = 20

/** Waits until it has found so many. @returns milliseconds that it took */
export async function untilFound({ narswarm }: Machine, count: number, signal: AbortSignal): Promise<number> {
  const begun = performance.now()
  while ((await narswarm.peers()).peers.filter(({ state }) => state === 'ok').length < count) {
    await sleep(POLL_MS, undefined, { signal })
  }
  return performance.now() - begun
}

/** Waits until it says so of the one with this address. */
export async function untilState(
  machine: Machine,
  host: Pick<Host, 'address'>,
  state: PeerReport['state'],
  signal: AbortSignal,
): Promise<void> {
  while ((await findPeer(machine, host))?.state !== state) await sleep(POLL_MS, undefined, { signal })
}

export interface PeerWatch {
  /** Each state with its reason, once, as `state: reason`. */
  readonly seen: ReadonlySet<string>
  /** Waits until such a one was seen, and no longer than so. */
  until(told: RegExp, ms: number): Promise<void>
  stop(): Promise<void>
}

/** What it says of the one with this address, as long as it is watched: who rested may be asked again a moment later. */
export function watchPeer(machine: Machine, host: Pick<Host, 'address'>): PeerWatch {
  const seen = new Set<string>()
  const look = async (): Promise<void> => {
    const found = await findPeer(machine, host)
    if (found !== undefined) seen.add(`${found.state}: ${found.reason ?? ''}`)
  }
  const stopping = new AbortController()
  const watching = (async () => {
    while (!stopping.signal.aborted) {
      await look()
      await sleep(POLL_MS)
    }
    await look()
  })()
  watching.catch(() => {})
  return {
    seen,
    async until(told, ms) {
      const deadline = performance.now() + ms
      while (![...seen].some((one) => told.test(one)) && performance.now() < deadline) await sleep(POLL_MS)
    },
    stop() {
      stopping.abort()
      return watching
    },
  }
}

/** The one with this address. */
export async function peerAt(machine: Machine, host: Pick<Host, 'address'>): Promise<PeerReport> {
  const found = await findPeer(machine, host)
  if (found === undefined) throw new Error(`no peer at ${host.address}`)
  return found
}

async function findPeer(
  { narswarm }: Machine,
  { address }: Pick<Host, 'address'>,
): Promise<PeerReport | undefined> {
  const { peers } = await narswarm.peers()
  return peers.find(({ url }) => url !== undefined && new URL(url).hostname === address)
}
