/** What everybody says of one path, believed or not: for a person who asks why. Nothing of it is kept. */
import { RESOLVE_DEADLINE_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import type { HashPart } from '../nix/store-path.ts'
import { SourceRestingError } from '../source.ts'
import type { CallOptions, NarInfoCandidate, NarInfoSource, SourceId } from '../source.ts'
import { abortable } from '../upstream/abortable.ts'
import type { NarInfoTable } from './narinfo-table.ts'
import { PolicyError } from './policy.ts'
import type { Policy, VerifiedNarInfo } from './policy.ts'

export type SurveyAnswer = { readonly source: SourceId } & (
  | { readonly outcome: 'told'; readonly info: VerifiedNarInfo; readonly candidate: NarInfoCandidate }
  /** `refused`: it told one that policy does not believe. */
  | { readonly outcome: 'refused' | 'failed'; readonly reason: string }
  | { readonly outcome: 'miss' | 'resting' }
)

export interface Survey {
  /** Those first that the resolver would believe first; `table` is what went out before. Takes RESOLVE_DEADLINE_MS twice at most. */
  (hashPart: HashPart, options: CallOptions): Promise<SurveyAnswer[]>
}

export function createSurvey(deps: {
  policy: Policy
  table: Pick<NarInfoTable, 'byHashPart'>
  /** Local ones first. */
  sources: readonly NarInfoSource[]
  /** As the resolver asks them: none hears of a path that a substitution would not tell it. */
  neighbours: (info?: VerifiedNarInfo) => readonly NarInfoSource[]
}): Survey {
  const { policy, table, sources, neighbours } = deps

  function judge(source: SourceId, candidate: NarInfoCandidate, asked: HashPart): SurveyAnswer {
    const { cid: written, ...rest }: NarInfo = candidate.info
    const cid = candidate.cid?.toString() ?? written
    try {
      const info = policy.verify({ ...rest, ...(cid === undefined ? {} : { cid }) }, asked)
      return { source, outcome: 'told', info, candidate }
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      return { source, outcome: 'refused', reason: error.message }
    }
  }

  async function ask(source: NarInfoSource, hashPart: HashPart, options: CallOptions): Promise<SurveyAnswer> {
    const { id } = source
    const deadline = AbortSignal.timeout(RESOLVE_DEADLINE_MS)
    const signal = AbortSignal.any([options.signal, deadline])
    try {
      const candidate = await abortable(source.lookup(hashPart, { signal }), signal)
      return candidate === undefined ? { source: id, outcome: 'miss' } : judge(id, candidate, hashPart)
    } catch (error) {
      options.signal.throwIfAborted()
      if (error instanceof SourceRestingError) return { source: id, outcome: 'resting' }
      const reason = deadline.aborted ? `no answer within ${RESOLVE_DEADLINE_MS} ms` : messageOf(error)
      return { source: id, outcome: 'failed', reason }
    }
  }

  return async (hashPart, options) => {
    const remembered = table.byHashPart(hashPart)
    const answers: SurveyAnswer[] = [
      ...(remembered === undefined ? [] : [judge('table', { info: remembered, from: 'table' }, hashPart)]),
      ...(await Promise.all(sources.map((source) => ask(source, hashPart, options)))),
    ]
    const known = answers.find((answer) => answer.outcome === 'told')?.info
    const near = await Promise.all(neighbours(known).map((source) => ask(source, hashPart, options)))
    return [...answers, ...near]
  }
}
