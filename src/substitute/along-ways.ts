/** The ways of one transfer that lead to neighbours which have its NAR or are fetching it, and what part it plays itself. */
import type { CallOptions, NarRef, SourceId, StreamSource } from '../source.ts'
import type { AlongFinder } from '../swarm/along-finder.ts'
import type { Way } from './ways.ts'

/**
 * `deciding`: it looks where the NAR can be had. `own`: it fetches it, and neighbours may read along. `along`: it reads
 * along itself. Only `own` is followed: who follows has asked somebody who followed nobody then, so that nobody ever
 * follows himself, over however many others (docs/adr/018).
 */
export type Part = 'deciding' | 'own' | 'along'

export interface AlongWays {
  readonly part: Part
  /** Each neighbour once, until nobody has it. @param tried sources, added to */
  ways(tried: Set<SourceId>, options: CallOptions): AsyncGenerator<Way, void, undefined>
  /** Another way is about to be gone. */
  own(): void
}

/** @param onTurn the part is another one now */
export function createAlongWays(
  nar: NarRef,
  finder: Pick<AlongFinder, 'find'> | undefined,
  onTurn: () => void,
): AlongWays {
  let finding = false
  let isOwn = false
  /** Streams of neighbours, from the request on. */
  let open = 0
  /** Of them those that have given nothing yet. */
  let silent = 0

  const watched = (source: StreamSource): StreamSource => ({
    ...source,
    async *open(...call) {
      let isSilent = true
      const heard = (): void => {
        if (isSilent) silent -= 1
        isSilent = false
      }
      open += 1
      silent += 1
      onTurn()
      try {
        for await (const bytes of source.open(...call)) {
          heard()
          yield bytes
        }
      } finally {
        heard()
        open -= 1
        onTurn()
      }
    },
  })

  return {
    get part() {
      if (open > 0) return 'along'
      return isOwn && !finding ? 'own' : 'deciding'
    },
    async *ways(tried, options) {
      if (finder === undefined) return
      for (;;) {
        // Beside one that gives nothing it is upstream's turn: any number of strangers can say that they have it.
        if (silent > 0) return
        finding = true
        let source
        try {
          source = await finder.find(nar, tried, options)
        } finally {
          finding = false
        }
        if (source === undefined) return
        tried.add(source.id)
        yield { kind: 'stream', source: watched(source) }
      }
    },
    own() {
      isOwn = true
      onTurn()
    },
  }
}
