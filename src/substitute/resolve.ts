/**
 * "What is this path": a `VerifiedNarInfo` or a miss. Memory, then our own table, then what is local (feeds, the
 * store), then whoever is asked over the network, all at once. The first candidate that passes policy is the answer;
 * the others may still add sources for the bytes.
 */
import { LRUCache } from 'lru-cache'
import type { CID } from 'multiformats/cid'
import { RESOLVED_MAX_AGE_MS, RESOLVED_MAX_COUNT, RESOLVE_DEADLINE_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import { COST, isNeighbour, SourceRestingError } from '../source.ts'
import type { CallOptions, NarInfoCandidate, NarInfoSource, SourceId } from '../source.ts'
import { abortable } from '../upstream/abortable.ts'
import type { NarInfoTable } from './narinfo-table.ts'
import { createOffers } from './offer.ts'
import type { Offer } from './offer.ts'
import { PolicyError } from './policy.ts'
import type { Policy, VerifiedNarInfo } from './policy.ts'

export interface Resolver {
  byHashPart(hashPart: HashPart, options: CallOptions): Promise<VerifiedNarInfo | undefined>
  /** Of a NAR whose narinfo went out before, by this process or an earlier one. */
  byNarHash(narHash: NarHash, options: CallOptions): Promise<VerifiedNarInfo | undefined>
  /** Where its bytes can be had, as far as is known without asking anyone. */
  offer(info: VerifiedNarInfo): Offer
  /** The NAR has another root than this one, by its proven bytes: it is not told to anyone again. */
  refuseRoot(info: VerifiedNarInfo, root: CID): void
  /** Asks every source for the path again, and tells what is known then; `onAnswer` after each of them. */
  askAll(info: VerifiedNarInfo, options: CallOptions & { onAnswer?: () => void }): Promise<Offer>
}

export function createResolver(deps: {
  policy: Policy
  table: NarInfoTable
  sources: readonly NarInfoSource[]
  /** Those that are asked beside them just now: for a path that nothing is known of, or for what else there is of one. */
  neighbours?: (info?: VerifiedNarInfo) => readonly NarInfoSource[]
  /** Its narinfo claims a trusted key's signature and has none. */
  forged?: (from: SourceId, reason: string) => void
  log: Log
}): Resolver {
  const { policy, table, log, neighbours = () => [] } = deps
  const local = deps.sources.filter((source) => source.cost === COST.local)
  const remote = deps.sources.filter((source) => source.cost !== COST.local)
  const offers = createOffers({ log })
  const resolved = new LRUCache<HashPart, VerifiedNarInfo>({
    max: RESOLVED_MAX_COUNT,
    ttl: RESOLVED_MAX_AGE_MS,
  })
  /** Of those: whose NAR is asked for was given its narinfo a moment ago, as a rule. */
  const hashParts = new LRUCache<NarHash, HashPart>({ max: RESOLVED_MAX_COUNT })
  const underWay = new Map<HashPart, Promise<VerifiedNarInfo | undefined>>()

  /** @throws PolicyError */
  function believe(candidate: NarInfoCandidate, asked: HashPart): VerifiedNarInfo {
    const { cid: written, ...rest } = candidate.info
    const told = candidate.cid?.toString() ?? written
    // What a stranger told is used, and neither kept nor told to others before it is proved.
    const cid = told === undefined || isNeighbour(candidate.from) ? {} : { cid: told }
    const info = policy.verify({ ...rest, ...cid }, asked)
    offers.add(candidate)
    return info
  }

  async function ask(
    source: NarInfoSource,
    hashPart: HashPart,
    signal: AbortSignal,
  ): Promise<VerifiedNarInfo | 'miss' | 'failed'> {
    try {
      const candidate = await source.lookup(hashPart, { signal })
      return candidate === undefined ? 'miss' : believe(candidate, hashPart)
    } catch (error) {
      // That it is left alone was told when it began to be.
      if (signal.aborted || error instanceof SourceRestingError) return 'failed'
      const reason = messageOf(error)
      log.warn({ source: source.id, hashPart }, `narinfo not had from ${source.id}: ${reason}`)
      if (error instanceof PolicyError && error.forged) deps.forged?.(source.id, reason)
      return 'failed'
    }
  }

  /**
   * First to answer wins; the others go on until the deadline, for the sake of their offers. A miss waits for all, but for a
   * source with `waitMs` no longer than that: unless all others failed, since a hit is then worth more than a quick miss.
   */
  async function askRemote(
    sources: readonly NarInfoSource[],
    hashPart: HashPart,
    deadline: Deadline,
  ): Promise<VerifiedNarInfo | undefined> {
    const { promise: first, resolve } = Promise.withResolvers<VerifiedNarInfo | undefined>()
    const brief = new Set(sources.filter(({ waitMs }) => waitMs !== undefined))
    const waitedFor = new Set(sources.filter(({ waitMs = Infinity }) => waitMs > 0))
    let isMiss = false
    const judge = (): void => {
      if (isMiss && waitedFor.size === 0) resolve(undefined)
    }
    const longEnough = (): void => {
      for (const source of brief) waitedFor.delete(source)
      judge()
    }
    const longestMs = Math.max(...[...brief].map(({ waitMs = 0 }) => waitMs))
    const timer = brief.size === 0 ? undefined : setTimeout(longEnough, longestMs)
    const answers = sources.map(async (source) => {
      const answer = await ask(source, hashPart, deadline.signal)
      if (typeof answer === 'object') resolve(answer)
      if (answer === 'miss' && !brief.has(source)) isMiss = true
      waitedFor.delete(source)
      judge()
    })
    void Promise.all(answers).finally(() => {
      deadline.clear()
      resolve(undefined)
    })
    try {
      return await Promise.race([first, deadline.passed])
    } finally {
      clearTimeout(timer)
    }
  }

  function fromTable(hashPart: HashPart): VerifiedNarInfo | undefined {
    try {
      const info = table.byHashPart(hashPart)
      return info === undefined ? undefined : believe({ info, from: 'table' }, hashPart)
    } catch (error) {
      // The user's keys have changed since, or an older narswarm wrote the row: ask again.
      log.debug({ hashPart, err: error }, 'a stored narinfo is not believed any more')
      return undefined
    }
  }

  async function lookup(hashPart: HashPart): Promise<VerifiedNarInfo | undefined> {
    const deadline = createDeadline()
    let found = fromTable(hashPart)
    for (const source of local) {
      const answer = await ask(source, hashPart, deadline.signal)
      if (typeof answer === 'object') found ??= answer
    }
    const others = found === undefined ? [...remote, ...neighbours()] : []
    if (others.some(({ rests }) => rests !== true)) {
      found = await askRemote(others, hashPart, deadline)
    } else deadline.clear()
    // Also one that is there: from now on it was given today.
    if (found !== undefined) table.put(found)
    return found
  }

  return {
    async byHashPart(hashPart, { signal }) {
      const known = resolved.get(hashPart)
      if (known !== undefined) return known
      let flight = underWay.get(hashPart)
      if (flight === undefined) {
        flight = lookup(hashPart)
          .then((info) => {
            if (info !== undefined) {
              resolved.set(hashPart, info)
              hashParts.set(info.narHash, hashPart)
            }
            return info
          })
          .finally(() => underWay.delete(hashPart))
        underWay.set(hashPart, flight)
      }
      return abortable(flight, signal)
    },

    async byNarHash(narHash) {
      const hashPart = hashParts.get(narHash)
      const known = hashPart && resolved.get(hashPart)
      if (known?.narHash === narHash) return known
      for (const info of table.byNarHash(narHash)) {
        try {
          return policy.verify(info)
        } catch (error) {
          if (!(error instanceof PolicyError)) throw error
        }
      }
      return undefined
    },

    offer: (info) => offers.get(info.narHash),

    refuseRoot(info, root) {
      offers.refuse(info.narHash, root)
      if (info.cid !== root.toString()) return
      const { cid: _, ...rest } = info
      table.put(rest)
      resolved.delete(hashPartOf(info.storePath))
    },

    async askAll(info, { onAnswer }) {
      const deadline = createDeadline()
      const hashPart = hashPartOf(info.storePath)
      const sources = [...deps.sources, ...neighbours(info)]
      const answers = sources.map((source) => ask(source, hashPart, deadline.signal).then(() => onAnswer?.()))
      await Promise.race([Promise.all(answers), deadline.passed])
      deadline.clear()
      return offers.get(info.narHash)
    },
  }
}

interface Deadline {
  readonly signal: AbortSignal
  readonly passed: Promise<undefined>
  clear(): void
}

/** One that can be taken back: thousands of misses a second shall not leave thousands of timers behind for seconds. */
function createDeadline(): Deadline {
  const abort = new AbortController()
  const { promise: passed, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => {
    abort.abort(new Error(`no answer within ${RESOLVE_DEADLINE_MS} ms`))
    resolve(undefined)
  }, RESOLVE_DEADLINE_MS)
  timer.unref()
  return { signal: abort.signal, passed, clear: () => clearTimeout(timer) }
}
