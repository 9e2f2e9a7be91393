/**
 * `narswarm explain`: what is known of a path, what older paths could give of it, and what would be done for a Nix that asked
 * now. Nothing is changed but what any look-up changes (who answered how fast), and no byte of the NAR is fetched.
 */
import { REWRITE_PROOF_DEADLINE_MS } from '../limits.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { Spool } from '../spool/spool.ts'
import { createOffers } from '../substitute/offer.ts'
import type { Offer } from '../substitute/offer.ts'
import { vouchers } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { Survey, SurveyAnswer } from '../substitute/survey.ts'
import type { planRelay } from '../substitute/relayed-way.ts'
import { isDoubtful, orderWays, paceId } from '../substitute/ways.ts'
import type { Way } from '../substitute/ways.ts'
import { createSlots } from '../upstream/slots.ts'
import { findOlderPaths } from './older-paths.ts'
import type { OlderPaths, OlderPathsDeps } from './older-paths.ts'
import { parsePathArgument } from './verify.ts'

/** The document of `narswarm explain --json`. New fields may come; `version` changes when one goes. */
export interface ExplainReport {
  readonly version: 1
  /** As it was asked for, where nobody knows it. */
  readonly path: string
  /** What everybody said who was asked what the path is; `table` is what went out before. */
  readonly answers: readonly {
    readonly source: string
    /** `refused`: not believed, since no trusted key signed it. */
    readonly outcome: SurveyAnswer['outcome']
    readonly reason?: string
  }[]
  /** Absent: nobody's narinfo was believed, so that Nix gets a 404. */
  readonly nar?: {
    readonly nar_hash: string
    readonly nar_size: number
    readonly references: number
    /** Trusted ones that signed it. */
    readonly keys: readonly string[]
  }
  readonly here?: {
    readonly spool: boolean
    /** `other`: valid, and its database has another NarHash. */
    readonly store: 'no' | 'yes' | 'other'
  }
  readonly older_paths?: OlderPaths
  /** To its bytes, those first that would be tried first. */
  readonly ways?: readonly WayReport[]
  /** Asked for differences from the older path when what an upstream gives is slow; absent when nobody would be. */
  readonly relay?: { readonly sources: readonly string[]; readonly older: string }
  /** Where the bytes would come from now: `spool`, `store`, `rewritten`, `blocks`, or the source of a stream. Absent: from nobody. */
  readonly now?: string
}

export interface WayReport {
  readonly way: 'blocks' | 'stream'
  /** Who told the root, or gives the stream. */
  readonly source: string
  readonly root?: string
  /** Those that are asked for blocks. */
  readonly peers?: readonly string[]
  /** `last-resort`: failed or lied lately; `nobody`: there is no peer to be asked for its blocks. */
  readonly state: 'usable' | 'last-resort' | 'nobody'
  /** Of late; absent when nobody measured it. */
  readonly bytes_per_second?: number
}

export interface ExplainDeps extends OlderPathsDeps {
  readonly survey: Survey
  readonly spool: Pick<Spool, 'has'>
  readonly index: Pick<LeafIndex, 'nar'>
  readonly relayed?: (info: VerifiedNarInfo) => ReturnType<typeof planRelay>
}

export type Explain = (path: string, options: CallOptions) => Promise<ExplainReport>

/** One at a time: live transfers hash, too. */
export function createExplain(deps: ExplainDeps, config: { storeDir: string }): Explain {
  const slots = createSlots(1)
  return async (text, options) => {
    await slots.take(options)
    try {
      return await explainPath(text, deps, config, options)
    } finally {
      slots.free()
    }
  }
}

/** @throws RequestError for what is no path */
async function explainPath(
  text: string,
  deps: ExplainDeps,
  { storeDir }: { storeDir: string },
  options: CallOptions,
): Promise<ExplainReport> {
  const told = await deps.survey(parsePathArgument(text, storeDir), options)
  const answers = told.map((answer) => {
    const { source, outcome } = answer
    return { source, outcome, ...('reason' in answer ? { reason: answer.reason } : {}) }
  })
  const info = told.find((answer) => answer.outcome === 'told')?.info
  if (info === undefined) return { version: 1, path: text, answers }

  const offer = offerOf(told, info, deps)
  const here = whereHere(info, deps)
  const older = await findOlderPaths(info, offer, deps, { ...options, storeDir })
  const ways = describeWays(info, offer, deps)
  const now = here.spool
    ? 'spool'
    : here.isIndexed || here.store === 'yes'
      ? 'store'
      : isMade(older)
        ? 'rewritten'
        : wayNow(ways)
  const relay = now?.startsWith('upstream:') === true ? deps.relayed?.(info) : undefined
  return {
    version: 1,
    path: `${storeDir}/${info.storePath}`,
    answers,
    nar: {
      nar_hash: `sha256:${info.narHash}`,
      nar_size: info.narSize,
      references: info.references.length,
      keys: vouchers(info),
    },
    here: { spool: here.spool, store: here.store },
    older_paths: older,
    ways,
    ...(relay === undefined
      ? {}
      : { relay: { sources: relay.relays, older: `${storeDir}/${relay.older.storePath}` } }),
    ...(now === undefined ? {} : { now }),
  }
}

/** Whether a request would be served by one of them: in their order, and within the time that it waits. */
function isMade({ paths }: OlderPaths): boolean {
  let tookMs = 0
  for (const path of paths) {
    if (path.has_failed === true) continue
    tookMs += path.took_ms ?? 0
    if (path.outcome === 'right') return tookMs <= REWRITE_PROOF_DEADLINE_MS
  }
  return false
}

/** As the resolver would know it now; its own is left as it is. */
function offerOf(told: readonly SurveyAnswer[], { narHash }: VerifiedNarInfo, { log }: ExplainDeps): Offer {
  const offers = createOffers({ log })
  for (const answer of told) if (answer.outcome === 'told') offers.add(answer.candidate)
  return offers.get(narHash)
}

function whereHere(
  { storePath, narHash }: VerifiedNarInfo,
  { spool, index, store }: ExplainDeps,
): { spool: boolean; store: 'no' | 'yes' | 'other'; isIndexed: boolean } {
  const valid = store?.pathInfo(hashPartOf(storePath))
  return {
    spool: spool.has(narHash),
    store: valid === undefined ? 'no' : valid.narHash === narHash ? 'yes' : 'other',
    isIndexed: index.nar(narHash) !== undefined,
  }
}

function describeWays(info: VerifiedNarInfo, offer: Offer, deps: ExplainDeps): WayReport[] {
  const { scores } = deps
  const blockSources = deps.blockSources(info)
  const order = { scores, blockSources }
  const describe = (way: Way): WayReport => {
    const isLast = way.kind === 'blocks' ? isDoubtful(way, order) : !scores.usable(way.source.id)
    const pace = scores.pace(paceId(way))
    return {
      way: way.kind,
      ...(way.kind === 'blocks'
        ? { source: way.told, root: way.root.toString(), peers: blockSources.map(({ id }) => id) }
        : { source: way.source.id }),
      state: isLast ? 'last-resort' : 'usable',
      ...(pace === undefined ? {} : { bytes_per_second: Math.round(pace) }),
    }
  }
  const ways = orderWays(offer, order).map(describe)
  const unused = blockSources.length > 0 ? [] : offer.roots
  return [
    ...ways.filter(({ state }) => state === 'usable'),
    ...ways.filter(({ state }) => state !== 'usable'),
    ...unused.map(({ root, from }): WayReport => ({
      way: 'blocks',
      source: from,
      root: root.toString(),
      peers: [],
      state: 'nobody',
    })),
  ]
}

function wayNow(ways: readonly WayReport[]): string | undefined {
  const first = ways.find(({ state }) => state !== 'nobody')
  return first === undefined || first.way === 'stream' ? first?.source : 'blocks'
}
