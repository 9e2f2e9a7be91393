/**
 * Which leaf of which older NAR is likely to be most like a wanted one: the one at the same place of the nearest path that
 * is here, so that whoever has it too may send what differs (docs/spec/dcz-leaves.md).
 */
import { readNode, rootLink } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import { OLDER_LOOKED_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { splitName } from '../nix/package-name.ts'
import { hashPartOf, nameOf } from '../nix/store-path.ts'
import type { OldBlock } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { NameIndex } from '../store/name-index.ts'
import { narInfoOfPath } from '../store/narinfo-source.ts'

/** For the leaf at this byte of the wanted NAR; undefined when there is none. */
export type OldLeafAt = (offset: number) => OldBlock | undefined

export interface OlderLeaves {
  /** Looks for nothing before it is asked for a leaf: some milliseconds then, once for a NAR. */
  of(wanted: Pick<SignedFields, 'storePath' | 'narHash' | 'narSize'>): OldLeafAt
}

type OldNar = Pick<NonNullable<ReturnType<LeafIndex['nar']>>, 'narSize' | 'root'>

export function createOlderLeaves(deps: {
  store: Pick<LocalStore, 'pathInfo'>
  names: Pick<NameIndex, 'samePackage'>
  index: Pick<LeafIndex, 'nar' | 'node'>
  blocks: Pick<LocalBlocks, 'lend'>
  /** Whether others may hear that it is here. */
  mayName: (info: NarInfo) => boolean
  log: Log
}): OlderLeaves {
  const { store, names, index, blocks, mayName, log } = deps

  /** Of those whose leaves are known: the same name first, then the same output, then the size that is nearest. */
  const nearest = ({ storePath, narHash, narSize }: Parameters<OlderLeaves['of']>[0]): OldNar | undefined => {
    const name = nameOf(storePath)
    const found = names
      .samePackage(splitName(name).packageName, OLDER_LOOKED_COUNT)
      .flatMap((path) => {
        const info = path === storePath ? undefined : store.pathInfo(hashPartOf(path))
        const nar = info === undefined || info.narHash === narHash ? undefined : index.nar(info.narHash)
        if (info === undefined || nar === undefined || nar.narSize === 0) return []
        const other = nameOf(path)
        const rank = [
          Number(other !== name),
          Number(outputOf(other) !== outputOf(name)),
          Math.abs(Math.log(nar.narSize / narSize)),
        ] as const
        return [{ info, nar, rank }]
      })
      .sort(({ rank: a }, { rank: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])
    return found.find(({ info }) => {
      const told = narInfoOfPath(info)
      return told !== undefined && mayName(told)
    })?.nar
  }

  const readerOf = ({ root, narSize }: OldNar): OldLeafAt => {
    let isGone = false
    /** By depth, those that were read last: leaves are asked for in their order. */
    const read = new Map<number, { readonly link: DagLink; readonly children: readonly DagLink[] }>()
    const childrenOf = (link: DagLink): readonly DagLink[] | undefined => {
      const last = read.get(link.depth)
      if (last?.link.offset === link.offset) return last.children
      const node = index.node(link.cid.multihash.digest)
      if (node === undefined) return undefined
      const children = readNode(link, node.bytes)
      read.set(link.depth, { link, children })
      return children
    }
    const find = (offset: number): DagLink | undefined => {
      let link: DagLink | undefined = rootLink(root, narSize)
      while (link !== undefined && link.depth > 0) {
        link = childrenOf(link)?.findLast((child) => child.offset <= offset)
      }
      return link
    }
    return (offset) => {
      // What is behind its end is most like what was its end.
      const leaf = isGone ? undefined : find(Math.min(offset, narSize - 1))
      if (leaf === undefined) return undefined
      return {
        digest: leaf.cid.multihash.digest,
        async lend(options) {
          const lent = await blocks.lend(leaf.cid, 'all', options)
          isGone ||= lent === undefined
          return lent
        },
      }
    }
  }

  return {
    of(wanted) {
      let at: OldLeafAt | undefined
      return (offset) => {
        try {
          if (at === undefined) {
            const nar = nearest(wanted)
            at = nar === undefined ? () => undefined : readerOf(nar)
          }
          return at(offset)
        } catch (error) {
          log.warn({ path: wanted.storePath }, `no older leaves looked for: ${messageOf(error)}`)
          at = () => undefined
          return undefined
        }
      }
    },
  }
}

/** `dev` of `glib-2.80.0-dev`: outputs differ more from each other than versions do. */
function outputOf(name: string): string {
  return /-([A-Za-z][A-Za-z0-9_]*)$/.exec(splitName(name).version)?.[1] ?? ''
}
