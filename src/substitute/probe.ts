/**
 * Peers that failed and whose back-off is over are asked for one block beside the NARs, and never by one: whoever answers is trusted
 * again, and no reader waited for whoever does not (P8).
 */
import type { CID } from 'multiformats/cid'
import { rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import { PROBE_DEADLINE_MS, SCORE_BACK_OFF_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { BlockSource } from '../source.ts'
import { WayStalledError } from './errors.ts'
import { fetchChildren } from './fetch-children.ts'
import { fetchLeaves } from './leaf-scheduler.ts'
import { createRoster } from './roster.ts'
import { ALL_BLOCKS } from './scores.ts'
import type { Scores } from './scores.ts'

export interface Prober {
  /**
   * Asks all of them that are due for the first block of this DAG, each once at a time: at once, and again while the NAR is on its
   * way, for a large one outlasts many a back-off. @returns ends that
   */
  watch(nar: { root: CID; narSize: number }, blockSources: readonly BlockSource[]): () => void
}

export function createProber(deps: { scores: Scores; clock: () => number; log: Log }): Prober {
  const { scores, clock } = deps
  const underWay = new Set<BlockSource>()
  /** What a probe finds is no news: the NARs told it when it happened. */
  const quietly: Log['debug'] = (fields, message) => deps.log.debug(fields, message)
  const log: Log = { debug: quietly, info: quietly, warn: quietly, error: quietly }

  async function ask(source: BlockSource, { root, narSize }: { root: CID; narSize: number }): Promise<void> {
    const roster = createRoster([source], { scores, clock, log })
    const abort = new AbortController()
    const timer = setTimeout(
      () => abort.abort(new WayStalledError(`${source.id} did not answer a probe`)),
      PROBE_DEADLINE_MS,
    ).unref()
    try {
      const link = rootLink(root, narSize)
      if (link.depth > 0) await fetchChildren(link, roster, { signal: abort.signal })
      else await Array.fromAsync(fetchLeaves(only(link), roster, { signal: abort.signal }))
    } catch (error) {
      log.debug({ source: source.id }, `probed in vain: ${messageOf(error)}`)
    } finally {
      clearTimeout(timer)
      underWay.delete(source)
    }
  }

  function probe(nar: { root: CID; narSize: number }, blockSources: readonly BlockSource[]): void {
    const isAnyDue = scores.usable(ALL_BLOCKS) && !scores.trusted(ALL_BLOCKS)
    const due = blockSources.filter(({ id }) => scores.usable(id) && (isAnyDue || !scores.trusted(id)))
    for (const source of due) {
      if (underWay.has(source)) continue
      underWay.add(source)
      void ask(source, nar)
    }
  }

  return {
    watch(nar, blockSources) {
      probe(nar, blockSources)
      const timer = setInterval(() => probe(nar, blockSources), SCORE_BACK_OFF_MS).unref()
      return () => clearInterval(timer)
    },
  }
}

async function* only(link: DagLink): AsyncGenerator<DagLink, void, undefined> {
  yield link
}
