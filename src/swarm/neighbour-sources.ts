/** All neighbours that may be asked now, as sources, and what comes of asking them: all of it is told to the table. */
import { NEIGHBOURS_KEPT_COUNT } from '../limits.ts'
import type { BlockSource, NarInfoSource, SourceId } from '../source.ts'
import { openNeighbour } from './neighbour-source.ts'
import type { NeighbourDeps, OpenNeighbour } from './neighbour-source.ts'

export interface NeighbourSources {
  /** Of those that have a cache. The same object for a neighbour each time. */
  narInfos(): readonly NarInfoSource[]
  /** Of those that have a gateway. */
  blocks(): readonly BlockSource[]
  /** For what others find out about one of these sources; ids of any other are ignored. */
  readonly verdicts: {
    answered(id: SourceId): void
    /** @param reason absent when nothing had come of it until others were quicker */
    faulted(id: SourceId, reason: string | undefined): void
    lied(id: SourceId, reason: string): void
  }
  /** Cuts what is under way. */
  close(): Promise<void>
}

/** @param deps.forgiven one of its sources had lied, and the table lets it be asked again: others forget that, too */
export function createNeighbourSources(
  deps: NeighbourDeps & { readonly forgiven?: (id: SourceId) => void },
  config: { storeDir: string },
): NeighbourSources {
  const { neighbours, forgiven } = deps
  /** By id and URL, those that were asked longest ago first. */
  const open = new Map<string, OpenNeighbour>()
  const bySource = new Map<SourceId, OpenNeighbour>()

  const current = (): { one: OpenNeighbour; hasCache: boolean; hasGateway: boolean }[] => {
    const found = neighbours.current().map((neighbour) => {
      const key = `${neighbour.id} ${neighbour.url.href}`
      const one = open.get(key) ?? openNeighbour(neighbour, deps, config)
      open.delete(key)
      open.set(key, one)
      bySource.set(one.blocks.id, one).set(one.streamId, one)
      if (one.listed(neighbour)) for (const source of [one.blocks.id, one.streamId]) forgiven?.(source)
      return { one, hasCache: neighbour.hasCache, hasGateway: neighbour.kind === 'narswarm' }
    })
    forgetOld(found.length)
    return found
  }

  /** One that left may be in the middle of a NAR, or come back: only those that left long ago are closed. */
  const forgetOld = (inUse: number): void => {
    for (const [key, one] of open) {
      if (open.size <= inUse + NEIGHBOURS_KEPT_COUNT) return
      open.delete(key)
      bySource.delete(one.blocks.id)
      bySource.delete(one.streamId)
      void one.close()
    }
  }

  return {
    narInfos: () => current().flatMap(({ one, hasCache }) => (hasCache ? [one.narInfos] : [])),
    blocks: () => current().flatMap(({ one, hasGateway }) => (hasGateway ? [one.blocks] : [])),
    verdicts: {
      answered(source) {
        bySource.get(source)?.answered()
      },
      faulted(source, reason) {
        bySource.get(source)?.gaveNothing(reason)
      },
      lied: (source, reason) => bySource.get(source)?.lied(reason),
    },
    async close() {
      await Promise.all([...open.values()].map((one) => one.close()))
    },
  }
}
