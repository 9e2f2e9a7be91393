/**
 * The way by a relay to what is left of a NAR that comes slowly from an upstream. Nobody waits for it: the relay is asked
 * beside the stream, and takes over at the byte where that is when the relay has the NAR (docs/adr/024).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LEAF_BYTES } from '../dag/profile.ts'
import { RELAY_LOOK_MS, RELAY_MIN_BYTES, RELAY_WORTH_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions, SourceId } from '../source.ts'
import type { RelayFinder } from '../swarm/relay-finder.ts'
import type { OlderLeaves } from './older-leaves.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Way } from './ways.ts'

/** How the NAR comes just now. */
export interface Coming {
  readonly inHand: number
  readonly left: number
  /** Undefined while nobody knows. */
  readonly bytesPerS: number | undefined
}

/** Of one transfer. */
export interface RelayedWay {
  /**
   * Looks for it once. Resolves when there is a way and it is worth being gone, or when there will be none. Never rejects.
   *
   * @returns undefined when it has been gone already
   * @param options.signal ends the search; the relay may go on
   */
  find(coming: () => Coming, options: CallOptions): Promise<Way | undefined> | undefined
  /** It is gone now, for good or ill. */
  begun(): void
}

interface PlanDeps {
  readonly finder: Pick<RelayFinder, 'relays' | 'find'>
  readonly older: Pick<OlderLeaves, 'nearest'>
}

/** Who would be asked for what; undefined when nobody would be. */
export function planRelay(
  info: VerifiedNarInfo,
  { finder, older }: PlanDeps,
): { readonly relays: readonly SourceId[]; readonly older: { readonly storePath: StorePath } } | undefined {
  const relays = info.narSize < RELAY_MIN_BYTES ? [] : finder.relays()
  const old = relays.length === 0 ? undefined : older.nearest(info)
  return old && { relays, older: old }
}

export function createRelayedWay(info: VerifiedNarInfo, deps: PlanDeps & { log: Log }): RelayedWay {
  const { finder, log } = deps

  async function search(coming: () => Coming, options: CallOptions): Promise<Way | undefined> {
    const old = planRelay(info, deps)?.older
    if (old === undefined) return undefined
    const until = async (condition: (now: Coming) => boolean): Promise<void> => {
      while (!condition(coming())) await sleep(RELAY_LOOK_MS, undefined, options)
    }
    await until(isWorthIt)
    log.debug({ path: info.storePath, older: old.storePath }, 'a relay is asked')
    const found = await finder.find(info, old.storePath, options)
    if (found === undefined) return undefined
    // Without a leaf in hand nothing tells whether the root is another NAR's.
    await until(({ inHand }) => inHand >= LEAF_BYTES)
    return isWorthIt(coming()) ? { kind: 'blocks', ...found, isRelayed: true } : undefined
  }

  let found: Promise<Way | undefined> | undefined
  let isOver = false
  return {
    find(coming, options) {
      if (isOver) return undefined
      found ??= search(coming, options).catch((error: unknown) => {
        if (!options.signal.aborted) {
          log.warn({ path: info.storePath }, `no relay was asked: ${messageOf(error)}`)
        }
        return undefined
      })
      return found
    },
    begun() {
      isOver = true
    },
  }
}

function isWorthIt({ left, bytesPerS }: Coming): boolean {
  return bytesPerS !== undefined && left >= (bytesPerS * RELAY_WORTH_MS) / 1000
}
