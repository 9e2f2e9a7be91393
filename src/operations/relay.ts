/**
 * The relay near the upstreams: what a machine behind a slow line wants, and what it has of it in an older version, is fetched
 * here for it, so that the differences between the two can go out. Nothing is fetched but what others may have, by a
 * share key's signature, and so much a day (docs/adr/024).
 */
import {
  RELAY_ANSWER_MS,
  RELAY_FETCH_DEADLINE_MS,
  RELAY_FETCHES_COUNT,
  RELAY_JOBS_MAX_COUNT,
  RELAY_REFUSED_MAX_COUNT,
  RELAY_REFUSED_MS,
  RESOLVE_DEADLINE_MS,
} from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { Holdings } from '../publish/holdings.ts'
import type { SharePolicy } from '../publish/share-policy.ts'
import type { CallOptions, NarInfoSource } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { Resolver } from '../substitute/resolve.ts'
import type { Transfers } from '../substitute/transfers.ts'
import { abortable } from '../upstream/abortable.ts'
import { createSlots } from '../upstream/slots.ts'
import type { DailyBudget } from './daily-budget.ts'
import type { RelayStatus } from './status.ts'

export interface Relay {
  /**
   * Resolves within RELAY_ANSWER_MS; what it began goes on after that.
   *
   * @param older what the asker has. Without it there are no differences, and then the upstream's own packing is the smaller one.
   * @returns the narinfo with its CID once the blocks of both are here; `later`: ask again; `no`: they will not be
   */
  ask(wanted: HashPart, older: HashPart, options: CallOptions): Promise<VerifiedNarInfo | 'later' | 'no'>
  status(): RelayStatus
  /** Ends what is under way. */
  close(): void
}

export function createRelay(deps: {
  /** Asked before anything is looked up that is known here of paths which others may not have: not even the time tells of those. */
  upstreams: readonly Pick<NarInfoSource, 'id' | 'lookup'>[]
  policy: SharePolicy
  holdings: Pick<Holdings, 'narInfo'>
  resolver: Pick<Resolver, 'byHashPart'>
  transfers: Pick<Transfers, 'fetchUpstream' | 'here'>
  budget: DailyBudget
  /** Of the spool: two NARs have to lie in it together. */
  spoolBytes: () => number
  clock: () => number
  log: Log
}): Relay {
  const { upstreams, policy, holdings, resolver, transfers, budget, clock, log } = deps
  const closing = new AbortController()
  const slots = createSlots(RELAY_FETCHES_COUNT)
  /** By the two paths: whether the blocks of both are here, in the end. None rejects. */
  const jobs = new Map<string, Promise<boolean>>()
  const refused = createFading<string, true>({
    max: RELAY_REFUSED_MAX_COUNT,
    maxAgeMs: RELAY_REFUSED_MS,
    clock,
  })
  let nars = 0

  const held = (hashPart: HashPart): VerifiedNarInfo | undefined => {
    const info = holdings.narInfo(hashPart)
    return info?.cid === undefined ? undefined : info
  }

  /** Whether an upstream tells a narinfo that others may have. */
  async function isPublic(hashPart: HashPart, { signal }: CallOptions): Promise<boolean> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(RESOLVE_DEADLINE_MS)])
    const answers = upstreams.map(async (upstream) => {
      const told = await upstream.lookup(hashPart, { signal: deadline })
      if (told === undefined) throw new Error(`${upstream.id} does not have it`)
      policy.verify(told.info, hashPart)
    })
    return Promise.any(answers).then(
      () => true,
      () => false,
    )
  }

  async function find(hashPart: HashPart, options: CallOptions): Promise<VerifiedNarInfo | undefined> {
    const known = holdings.narInfo(hashPart)
    if (known !== undefined) return known
    if (!(await isPublic(hashPart, options))) return undefined
    const info = await resolver.byHashPart(hashPart, options)
    return info !== undefined && policy.allows(info) ? info : undefined
  }

  async function fetch(info: VerifiedNarInfo, options: CallOptions): Promise<void> {
    await slots.take(options)
    try {
      await transfers.fetchUpstream(info, options)
      nars += 1
    } finally {
      slots.free()
    }
  }

  /** @returns false when one of them cannot be had, or not now */
  async function get(pair: readonly HashPart[], options: CallOptions): Promise<boolean> {
    const infos = await Promise.all(pair.map((one) => find(one, options)))
    const missing: VerifiedNarInfo[] = []
    for (const info of infos) {
      if (info === undefined) return false
      const hashPart = hashPartOf(info.storePath)
      // What is in the store and was not hashed yet is hashed now.
      if (held(hashPart) === undefined) await transfers.here(info, options)
      if (held(hashPart) === undefined) missing.push(info)
    }
    const bytes = missing.reduce((sum, { narSize }) => sum + narSize, 0)
    const about = { paths: missing.map(({ storePath }) => storePath), bytes }
    if (bytes > deps.spoolBytes()) {
      log.info(about, 'relay: not fetched, the spool does not have so much room')
      return false
    }
    if (budget.take(bytes) === undefined) {
      log.info({ ...about, left: budget.leftBytes() }, 'relay: not fetched, it has fetched enough today')
      return false
    }
    await Promise.all(missing.map((info) => fetch(info, options)))
    return pair.every((one) => held(one) !== undefined)
  }

  async function run(key: string, pair: readonly HashPart[]): Promise<boolean> {
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(RELAY_FETCH_DEADLINE_MS)])
    let isHere = false
    try {
      isHere = await get(pair, { signal })
    } catch (error) {
      log.info({ hashParts: pair }, `relay: not fetched: ${messageOf(error)}`)
    }
    if (!isHere) refused.set(key, true)
    jobs.delete(key)
    return isHere
  }

  return {
    async ask(wanted, older, options) {
      const pair = [wanted, older]
      const key = pair.join(' ')
      if (refused.has(key)) return 'no'
      if (pair.some((one) => held(one) === undefined)) {
        if (!jobs.has(key) && jobs.size >= RELAY_JOBS_MAX_COUNT) return 'later'
        const job = jobs.get(key) ?? run(key, pair)
        jobs.set(key, job)
        const signal = AbortSignal.any([options.signal, AbortSignal.timeout(RELAY_ANSWER_MS)])
        try {
          if (!(await abortable(job, signal))) return 'no'
        } catch {
          options.signal.throwIfAborted()
          return 'later'
        }
      }
      return held(wanted) ?? 'no'
    },
    status: () => ({
      max_bytes_per_day: budget.maxBytes,
      bytes_today: budget.spentBytes(),
      nars,
      under_way: jobs.size,
    }),
    close: () => closing.abort(new Error('narswarm is closing')),
  }
}
