/**
 * From a root CID to its leaves, in order, one interior node at a time. The strict reader refuses every shape but
 * the one that NarSize demands, so a hostile DAG ends at its first node.
 */
import type { CID } from 'multiformats/cid'
import { rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import type { CallOptions } from '../source.ts'

/** Gets an interior node from somewhere and reads it with `readNode`. */
export type GetChildren = (link: DagLink, options: CallOptions) => Promise<readonly DagLink[]>

/**
 * Links of the leaves that hold byte `from` and those after it, in order.
 *
 * @throws DagError when the root cannot be that of a NAR of this size, and whatever `getChildren` throws
 */
export function leafLinks(
  nar: { root: CID; narSize: number; from: number },
  getChildren: GetChildren,
  options: CallOptions,
): AsyncGenerator<DagLink, void, undefined> {
  async function* descend(link: DagLink): AsyncGenerator<DagLink, void, undefined> {
    if (link.offset + link.size <= nar.from) return
    if (link.depth === 0) {
      yield link
      return
    }
    for (const child of await getChildren(link, options)) yield* descend(child)
  }
  return descend(rootLink(nar.root, nar.narSize))
}
