/**
 * What is done between a narinfo and the request for its NAR (0.3 to 1.4 s in the field): a small NAR is fetched, the
 * root of a large one; where no peer is to be trusted, the others are asked who has the bytes. All within a budget, for
 * Nix also asks for narinfos of paths that it does not want.
 */
import { LRUCache } from 'lru-cache'
import { LEAF_BYTES } from '../dag/profile.ts'
import { rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import {
  HINT_HELD_MS,
  HINT_MAX_TRANSFERS_COUNT,
  HINT_NAR_MAX_BYTES,
  HINT_NAR_MS,
  HINT_ROOTS_COUNT,
  HINTS_FAST_MAX_BYTES,
  HINTS_MAX_BYTES,
  HINTS_MAX_COUNT,
  HINTS_MS,
  HINTS_SEEN_MAX_COUNT,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import type { CallOptions, NarRef } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import type { BlockSources } from './block-sources.ts'
import { fetchChildren } from './fetch-children.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Resolver } from './resolve.ts'
import { createRoster } from './roster.ts'
import { ALL_BLOCKS } from './scores.ts'
import type { Scores } from './scores.ts'
import { isDoubtful } from './ways.ts'

export interface Hints {
  hint(info: VerifiedNarInfo): void
  /** Somebody asks for it: it counts against no budget any more. */
  claimed(info: VerifiedNarInfo): void
  /** Children of its root, when they were fetched ahead. */
  rootChildren(nar: NarRef): readonly DagLink[] | undefined
}

export function createHints(deps: {
  resolver: Pick<Resolver, 'offer' | 'askAll'>
  blockSources: BlockSources
  scores: Scores
  clock: () => number
  log: Log
  /** Or on its way already. */
  isHere(info: VerifiedNarInfo): boolean
  /** NARs moving now. */
  running(): number
  /** The whole NAR, given up soon after the signal. */
  fetch(info: VerifiedNarInfo, options: CallOptions): Promise<void>
}): Hints {
  const { resolver, scores, log } = deps
  const roots = new LRUCache<string, readonly DagLink[]>({ max: HINT_ROOTS_COUNT })
  /** Bytes of those that nobody has come for yet. */
  const open = new Map<NarHash, number>()
  /** Those that were looked at: a Nix that asks for a narinfo again and again is not to cost a look at the database each time. */
  const seen = createFading<NarHash, true>({
    max: HINTS_SEEN_MAX_COUNT,
    maxAgeMs: HINT_HELD_MS,
    clock: deps.clock,
  })
  const keyOf = (root: NonNullable<NarRef['root']>, narSize: number): string =>
    `${root.toString()} ${narSize}`
  const spent = (): number => [...open.values()].reduce((sum, bytes) => sum + bytes, 0)

  /** Bytes a second of the quickest way to it, as it was of late; 0 when nobody measured it. */
  const paceTo = (info: VerifiedNarInfo): number => {
    const { roots, streams } = resolver.offer(info)
    const ids = [...(roots.length > 0 ? [ALL_BLOCKS] : []), ...streams.map(({ id }) => id)]
    return Math.max(0, ...ids.map((id) => scores.pace(id) ?? 0))
  }

  /** Whatever comes of it, the request for the NAR does the same again. */
  async function prepare(info: VerifiedNarInfo, isSmall: boolean, options: CallOptions): Promise<void> {
    const { narSize } = info
    const blockSources = deps.blockSources(info)
    const [told] = resolver.offer(info).roots
    const isTrusted =
      told !== undefined &&
      !isDoubtful({ kind: 'blocks', root: told.root, told: told.from }, { scores, blockSources })
    if (!isTrusted && resolver.offer(info).streams.length === 0) await resolver.askAll(info, options)
    if (isSmall) {
      await deps.fetch(info, options)
    } else if (isTrusted && narSize > LEAF_BYTES) {
      const roster = createRoster(blockSources, deps)
      const children = await fetchChildren(rootLink(told.root, narSize), roster, options)
      roots.set(keyOf(told.root, narSize), children)
    }
  }

  return {
    hint(info) {
      const { narHash, narSize } = info
      if (seen.has(narHash) || open.size >= HINTS_MAX_COUNT) return
      if (deps.running() >= HINT_MAX_TRANSFERS_COUNT) return
      if (deps.isHere(info)) {
        seen.set(narHash, true)
        return
      }
      const bytesPerMs = Math.min(paceTo(info) / 1000, HINTS_FAST_MAX_BYTES / HINTS_MS)
      const isSmall = narSize <= Math.max(HINT_NAR_MAX_BYTES, bytesPerMs * HINT_NAR_MS)
      const bytes = isSmall ? narSize : HINT_NAR_MAX_BYTES
      if (spent() + bytes > Math.max(HINTS_MAX_BYTES, bytesPerMs * HINTS_MS)) return
      seen.set(narHash, true)
      open.set(narHash, bytes)
      const signal = AbortSignal.timeout(HINT_HELD_MS)
      signal.addEventListener('abort', () => open.delete(narHash), { once: true })
      prepare(info, isSmall, { signal }).catch((error: unknown) => {
        log.debug({ path: info.storePath }, `nothing was done ahead: ${messageOf(error)}`)
      })
    },
    claimed: ({ narHash }) => open.delete(narHash),
    rootChildren: ({ root, narSize }) => (root === undefined ? undefined : roots.get(keyOf(root, narSize))),
  }
}
