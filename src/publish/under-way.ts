/**
 * NARs that are not here yet, for neighbours that read along and check the bytes themselves. Nothing is fetched for them
 * that our own Nix did not ask for, and nothing goes on for their sake when it asks no more.
 */
import { ALONG_WAITING_MAX_COUNT } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { CallOptions } from '../source.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { UnderWay } from '../substitute/under-way.ts'
import type { AlongRequest } from '../swarm/along-wire.ts'
import type { NeighbourId } from '../swarm/neighbours.ts'
import { rendezvousOrder } from '../swarm/rendezvous.ts'
import type { SharedNar } from './holdings.ts'

export interface NarsUnderWay {
  /**
   * The NAR as it comes; it breaks off when it comes no more, or was proved wrong. Waits no longer than told for it to be on
   * its way, and only if it may soon be.
   */
  open(narHash: NarHash, along: AlongRequest, options: CallOptions): Promise<SharedNar | undefined>
}

export function createNarsUnderWay(deps: {
  underWay: UnderWay
  /** Whether others may have it. */
  shareable(info: VerifiedNarInfo): boolean
  /** Milliseconds, monotonic. */
  clock: () => number
  /** As neighbours know us. */
  self(): NeighbourId | undefined
}): NarsUnderWay {
  const { underWay, clock } = deps
  let waiting = 0

  function find(narHash: NarHash, along: AlongRequest): { nar: SharedNar } | { waitMs: number } {
    const known = underWay.get(narHash)
    const info = known?.info ?? underWay.expected(narHash)
    if (info === undefined || !deps.shareable(info)) return { waitMs: 0 }
    if (known === undefined) return { waitMs: along.expectedMs }
    const { part } = known
    switch (part) {
      case 'deciding':
        return { waitMs: along.begunMs }
      case 'own':
        return {
          nar: { narSize: info.narSize, read: (range, options) => known.follow(range, options) },
        }
      case 'along':
        // Whom it follows the asker asks, too.
        return { waitMs: 0 }
      default:
        return part satisfies never
    }
  }

  /** Of two that wait for each other one would wait in vain. */
  function isBefore(as: NeighbourId | undefined, narHash: NarHash): boolean {
    const self = deps.self()
    return as !== undefined && self !== undefined && rendezvousOrder(narHash, [as, self])[0] === as
  }

  /** Until something is another way than before, or the time is over. */
  async function turned(ms: number, { signal }: CallOptions): Promise<void> {
    const timer = new AbortController()
    const timeout = setTimeout(() => timer.abort(), ms)
    waiting += 1
    try {
      await underWay.turned({ signal: AbortSignal.any([signal, timer.signal]) })
    } catch (error) {
      if (!timer.signal.aborted) throw error
    } finally {
      waiting -= 1
      clearTimeout(timeout)
    }
  }

  return {
    async open(narHash, along, options) {
      const begun = clock()
      const mayWait = !isBefore(along.as, narHash)
      for (;;) {
        const found = find(narHash, along)
        if ('nar' in found) return found.nar
        const left = begun + found.waitMs - clock()
        if (!mayWait || left <= 0 || waiting >= ALONG_WAITING_MAX_COUNT) return undefined
        await turned(left, options)
      }
    },
  }
}
