/** Leaves that lie here in other NARs, as one more source of blocks: an upgrade leaves many of them as they were. */
import { COST, SourceMissError } from '../source.ts'
import type { BlockSource, SourceId } from '../source.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'

/** Of whichever NAR, in spool or store. */
const LOCAL: SourceId = 'local'

/** What is not here, or not as it was indexed, is a miss. */
export function createLocalLeaves(
  blocks: Pick<LocalBlocks, 'get' | 'size'>,
  scope: Parameters<LocalBlocks['get']>[1],
): BlockSource {
  return {
    id: LOCAL,
    cost: COST.local,
    lacks: (cid) => blocks.size(cid, scope) === undefined,
    async fetch({ cid, maxBytes, into }, options) {
      const bytes = await blocks.get(cid, scope, into === undefined ? options : { ...options, into })
      if (bytes === undefined || bytes.length > maxBytes) {
        throw new SourceMissError(LOCAL, `${cid.toString()} is not here`)
      }
      return bytes
    },
  }
}
