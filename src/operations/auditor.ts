/**
 * Random verification of followed feeds. Root is a pure function of the NAR, and the NarHash is signed by a key the user
 * trusts: so anyone with the bytes can judge an entry, and a wrong one is evidence against its publisher (design 6).
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LEAF_BYTES } from '../dag/profile.ts'
import type { FeedName } from '../feed/feed-name.ts'
import type { Follower, ToldMapping } from '../feed/follower.ts'
import {
  AUDIT_AGAIN_MS,
  AUDIT_DEADLINE_MS,
  AUDIT_DRAWS_COUNT,
  AUDIT_TOLD_MAX_COUNT,
  AUDIT_TURN_COUNT,
} from '../limits.ts'
import type { Log } from '../log.ts'
import { formatStorePath } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import { PolicyError } from '../substitute/policy.ts'
import type { Policy, VerifiedNarInfo } from '../substitute/policy.ts'
import type { Resolver } from '../substitute/resolve.ts'
import type { Purse, RootJudge, RootVerdict } from '../substitute/root-judge.ts'
import type { Transfers } from '../substitute/transfers.ts'
import type { AuditMemory } from './audit-memory.ts'
import type { DailyBudget } from './daily-budget.ts'
import { RequestError } from './operations.ts'
import type { AuditedEntry, AuditEvent, AuditRequest } from './operations.ts'
import { describeBad } from './audit-report.ts'
import type { AuditStatus } from './audit-report.ts'

export interface Auditor {
  /** Audits one entry picked at random, within the budget. @returns undefined when there was none to audit */
  turn(options: CallOptions): Promise<AuditedEntry | undefined>
  /** @throws RequestError when nothing of the feed is here */
  run(request: AuditRequest, options: CallOptions): AsyncGenerator<AuditEvent, void, undefined>
  status(): AuditStatus
}

export interface AuditorDeps {
  follower: Follower
  policy: Policy
  resolver: Pick<Resolver, 'refuseRoot'>
  transfers: Pick<Transfers, 'running'>
  index: Pick<LeafIndex, 'nar'>
  judge: RootJudge
  memory: AuditMemory
  budget: DailyBudget
  /** In [0, 1). */
  random: () => number
  clock: () => number
  log: Log
}

interface Place {
  readonly feed: FeedName
  readonly position: number
  readonly told: ToldMapping
}

/** What a user asks for is not ours to ration. */
const OPEN_PURSE: Purse = { take: () => ({ giveBack() {} }) }

export function createAuditor(deps: AuditorDeps, config: { storeDir: string }): Auditor {
  const { follower, policy, judge, memory, budget, random, clock, log } = deps

  /** Uniform over the positions of all trees; a position that is not to be audited is drawn again. */
  function pick(): Place | undefined {
    const sizes = [...follower.sizes()]
    const total = sizes.reduce((sum, [, size]) => sum + size, 0)
    if (total === 0) return undefined
    const left = budget.leftBytes()
    let oldest: { place: Place; at: number } | undefined
    for (let draw = 0; draw < AUDIT_DRAWS_COUNT; draw++) {
      const place = placeAt(sizes, Math.floor(random() * total))
      if (place === undefined) continue
      const { info, cid } = place.told
      // So small a NAR is one block, whose CID is its NarHash: a feed cannot be wrong about it.
      if (info.narSize <= LEAF_BYTES) continue
      if (info.narSize > left && deps.index.nar(info.narHash) === undefined) continue
      if (follower.badEntry(info.narHash, cid) !== undefined) continue
      const last = memory.last(info.narHash, cid.toString())
      if (last === undefined) return place
      if (oldest === undefined || last.at < oldest.at) oldest = { place, at: last.at }
    }
    // A clock that was set back makes what was audited then no newer than now.
    return oldest !== undefined && Math.abs(clock() - oldest.at) >= AUDIT_AGAIN_MS ? oldest.place : undefined
  }

  function placeAt(sizes: readonly (readonly [FeedName, number])[], drawn: number): Place | undefined {
    let position = drawn
    for (const [feed, size] of sizes) {
      if (position < size) {
        const told = follower.mappingAt(feed, position)
        return told && { feed, position, told }
      }
      position -= size
    }
    return undefined
  }

  function report(place: Place, verdict: Omit<AuditedEntry, keyof ReturnType<typeof claimOf>>): AuditedEntry {
    return { ...claimOf(place), ...verdict }
  }

  function claimOf({ feed, position, told: { info, cid } }: Place) {
    const path = formatStorePath(info.storePath, config.storeDir)
    return { feed, position, path, narHash: info.narHash, narSize: info.narSize, told: cid.toString() }
  }

  /** @returns undefined when the purse had not enough */
  async function audit(place: Place, purse: Purse, options: CallOptions): Promise<AuditedEntry | undefined> {
    const { info, cid, from } = place.told
    const known = follower.badEntry(info.narHash, cid)
    if (known !== undefined) {
      const reason = `proved wrong before, ${new Date(known.markedAt).toISOString()}`
      const computed = known.computed === undefined ? {} : { computed: known.computed }
      return report(place, { outcome: 'wrong', ...computed, reason, fetchedBytes: 0 })
    }
    let verified: VerifiedNarInfo
    try {
      verified = policy.verify(info)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      memory.note(info.narHash, cid.toString(), 'untrusted')
      return report(place, { outcome: 'untrusted', reason: error.message, fetchedBytes: 0 })
    }
    if (info.narSize <= LEAF_BYTES) return report(place, { outcome: 'right', fetchedBytes: 0 })

    const verdict = await judged(verified, place.told, purse, options)
    const { outcome } = verdict
    if (outcome === 'too-dear') return undefined
    memory.note(info.narHash, cid.toString(), outcome)
    if (outcome !== 'wrong') return report(place, { ...verdict, outcome })
    const { computed, ...rest } = verdict
    const evidence = computed === undefined ? {} : { computed: computed.toString() }
    follower.markBad(info.narHash, cid, { told: from, storePath: info.storePath, ...evidence })
    deps.resolver.refuseRoot(verified, cid)
    const wrong = report(place, { ...rest, ...evidence })
    log.error(
      { ...wrong },
      `feed ${place.feed} is wrong about ${wrong.path}: it tells CID ${wrong.told}, and ${verdict.reason}`,
    )
    return wrong
  }

  async function judged(
    info: VerifiedNarInfo,
    { cid, from }: ToldMapping,
    purse: Purse,
    options: CallOptions,
  ): Promise<RootVerdict> {
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(AUDIT_DEADLINE_MS)])
    try {
      return await judge.judge(info, { root: cid, from }, purse, { signal })
    } catch (error) {
      if (options.signal.aborted || !signal.aborted) throw error
      return { outcome: 'unavailable', reason: `not within ${AUDIT_DEADLINE_MS} ms`, fetchedBytes: 0 }
    }
  }

  /** Positions of a tree: all in order, or some at random, each once. */
  function* positionsOf(size: number, sample: AuditRequest['sample']): Generator<number, void, undefined> {
    if (sample === 'all' || sample >= size) {
      for (let position = 0; position < size; position++) yield position
      return
    }
    // Fisher and Yates, of which only what was moved is kept: entries that are no mappings ask for more than the sample.
    const moved = new Map<number, number>()
    for (let end = size; end > 0; end--) {
      const at = Math.floor(random() * end)
      yield moved.get(at) ?? at
      moved.set(at, moved.get(end - 1) ?? end - 1)
    }
  }

  return {
    async turn(options) {
      // A build's bytes come first.
      if (deps.transfers.running() > 0) return undefined
      const place = pick()
      return place && audit(place, budget, options)
    },

    async *run({ feed: name, sample }, options) {
      const [feed, size] = [...follower.sizes()].find(([one]) => one === name) ?? []
      if (feed === undefined || size === undefined) {
        const known = [...follower.sizes().keys()].join(', ') || 'none'
        throw new RequestError(`no feed ${JSON.stringify(name)} is followed here (${known})`)
      }
      if (size === 0) throw new RequestError(`nothing of feed ${name} is here yet; see narswarm feed status`)
      const begun = clock()
      const tally = { right: 0, wrong: 0, unavailable: 0, untrusted: 0 }
      let fetchedBytes = 0
      let looked = 0
      let audited = 0
      for (const position of positionsOf(size, sample)) {
        if (++looked % AUDIT_TURN_COUNT === 0) await nextTurn()
        options.signal.throwIfAborted()
        const told = follower.mappingAt(feed, position)
        if (told === undefined) continue
        const place = { feed, position, told }
        // One NAR may have many paths.
        const last = memory.last(told.info.narHash, told.cid.toString())
        const item =
          last?.outcome === 'right' && last.at >= begun
            ? report(place, { outcome: 'right', fetchedBytes: 0 })
            : await audit(place, OPEN_PURSE, options)
        if (item === undefined) continue
        tally[item.outcome] += 1
        fetchedBytes += item.fetchedBytes
        yield { kind: 'item', ...item }
        if (++audited === sample) break
      }
      yield { kind: 'done', feed, ...tally, fetchedBytes }
    },

    status() {
      const { entries, count } = follower.bad(AUDIT_TOLD_MAX_COUNT)
      return {
        max_bytes_per_day: budget.maxBytes,
        bytes_today: budget.spentBytes(),
        ...memory.counts(),
        bad_count: count,
        bad: entries.map((bad) => describeBad(bad, config.storeDir)),
      }
    },
  }
}
