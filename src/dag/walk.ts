import type { CarBlock } from './car.ts'
import { checkLeaf, readNode } from './reader.ts'
import type { DagLink } from './reader.ts'

/**
 * The blocks of a NAR's DAG below `root`, each once, in depth-first order: what a gateway answers as
 * `order=dfs; dups=n`. A leaf that stands in a NAR many times is asked for once. Remembers the digests of the blocks
 * that it gave, and the links of one node a level.
 *
 * @param getBlock bytes of the block, not yet checked; a block that is not there is its throw
 * @throws DagError
 */
export async function* walkBlocks(
  root: DagLink,
  getBlock: (link: DagLink) => Promise<Uint8Array>,
): AsyncGenerator<CarBlock, void, undefined> {
  const given = new Set<string>()
  const open: DagLink[] = [root]
  for (let link = open.pop(); link !== undefined; link = open.pop()) {
    // With the size, since a hostile DAG may put one block where two sizes are due; then it is refused, not skipped.
    const key = `${Buffer.from(link.cid.bytes).toString('latin1')}${link.size}`
    if (given.has(key)) continue
    given.add(key)
    const bytes = await getBlock(link)
    if (link.depth === 0) checkLeaf(link, bytes)
    else open.push(...readNode(link, bytes).toReversed())
    yield { cid: link.cid, bytes }
  }
}
