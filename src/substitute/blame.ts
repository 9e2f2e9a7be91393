/** Whose bytes the transfer of one NAR has in hand, whose may lie beside them, and who is at fault when they prove wrong. */
import { DagError } from '../dag/reader.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { NarHashMismatchError, RootMisfitError } from './errors.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Scores } from './scores.ts'
import { isUpstream, wayId } from './ways.ts'
import type { Way } from './ways.ts'

export interface Blame {
  /** Ways are not mixed: bytes of several made a wrong NAR, and the next is to be proved by itself. */
  readonly apart: boolean
  /** What is in hand came in part by a way that was proved wrong meanwhile. */
  readonly isTainted: boolean
  isWrong(way: Way): boolean
  /** Whether bytes of this way would lie beside those of another one when none may be mixed. */
  isMixed(way: Way, current?: Way): boolean
  /** What is in hand begins with a part of an earlier run, which nobody watched meanwhile. */
  tookUp(): void
  gave(way: Way): void
  /** It ended before the NAR. Most that do are not wrong. */
  failed(way: Way, error: unknown): void
  /** What is in hand is the NAR: a root that did not fit it is wrong. */
  proved(): void
  /** What is in hand has this hash, and is not the NAR. @returns so in words */
  refuted(came: NarHash): string
  /** What was in hand is thrown away. Who was proved wrong remains so. */
  beginAnew(): void
}

export interface BlameDeps {
  readonly scores: Scores
  readonly log: Log
  /** Bytes of several ways made a wrong NAR lately: they are not mixed again, so that each is proved by itself. */
  readonly apart: boolean
  /** Proved not to be that of this NAR, though every block was right: whoever told this root is wrong. */
  badRoot(way: Way): void
}

export function createBlame(
  { narHash, storePath }: Pick<VerifiedNarInfo, 'narHash' | 'storePath'>,
  deps: BlameDeps,
): Blame {
  const { scores, log } = deps
  let { apart } = deps
  /** By id: a root told anew is the same way. */
  const used = new Map<string, Way>()
  const wrong = new Set<string>()
  /** Roots that do not fit what is in hand, and why. */
  const misfits = new Map<Way, string>()
  let hasKeptPart = false

  function condemn(way: Way, reason: string): void {
    wrong.add(wayId(way))
    scores.lied(wayId(way), reason)
    if (way.kind === 'blocks') deps.badRoot(way)
  }

  return {
    get apart() {
      return apart
    },
    get isTainted() {
      return [...used.keys()].some((id) => wrong.has(id))
    },
    isWrong: (way) => wrong.has(wayId(way)),
    isMixed(way, current) {
      const others = [...used.values(), ...(current === undefined ? [] : [current])]
      return apart && others.some((one) => wayId(one) !== wayId(way))
    },
    tookUp() {
      hasKeptPart = true
    },
    gave(way) {
      if (!used.has(wayId(way))) used.set(wayId(way), way)
    },
    failed(way, error) {
      if (error instanceof DagError || error instanceof NarHashMismatchError) condemn(way, messageOf(error))
      if (error instanceof RootMisfitError) misfits.set(way, messageOf(error))
    },
    proved() {
      for (const [way, reason] of misfits) condemn(way, reason)
    },

    /**
     * One way alone is proved wrong. Of several nobody knows which one it was: the user chose the upstreams, so the
     * others are avoided, and a root told by a liar cannot turn us against an upstream. A kept part may have rotted.
     */
    refuted(came) {
      const names = [...(hasKeptPart ? ['a kept part'] : []), ...used.keys()].join(', ')
      const reason = `bytes from ${names} hash to ${came}, signed is ${narHash}`
      log.error({ path: storePath, ways: names }, `NAR thrown away: ${reason}`)
      const [way, ...others] = used.values()
      if (hasKeptPart || way === undefined) return reason
      if (others.length === 0) {
        condemn(way, `what it gave as NAR ${narHash} hashes to ${came}`)
        return reason
      }
      apart = true
      for (const one of used.values()) {
        if (isUpstream(one)) scores.faulted(wayId(one))
        else scores.suspected(wayId(one))
      }
      return reason
    },

    beginAnew() {
      used.clear()
      misfits.clear()
      hasKeptPart = false
    },
  }
}
