/**
 * Which leaf of which older NAR is likely to be most like a wanted one: the one at the same place of the nearest path that
 * is here, so that whoever has it too may send what differs (docs/spec/dcz-leaves.md).
 */
import { createLeafBuffers } from '../dag/leaf-buffers.ts'
import { OLDER_LEAVES_COUNT, OLDER_LOOKED_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { splitName } from '../nix/package-name.ts'
import { hashPartOf, nameOf } from '../nix/store-path.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { NameIndex } from '../store/name-index.ts'
import { narInfoOfPath } from '../store/narinfo-source.ts'
import { createSlots } from '../upstream/slots.ts'
import { indexedLeaves, storedLeaves } from './older-nar.ts'
import type { OlderNar, OldLeafAt } from './older-nar.ts'

export interface OlderLeaves {
  /** The path that is likely to be most like it, of those that others may hear of. */
  nearest(wanted: Pick<SignedFields, 'storePath' | 'narHash' | 'narSize'>): OlderNar | undefined
  /** Looks for nothing before it is asked for a leaf: some milliseconds then, once for a NAR. */
  of(wanted: Pick<SignedFields, 'storePath' | 'narHash' | 'narSize'>): OldLeafAt
}

export function createOlderLeaves(deps: {
  store: Pick<LocalStore, 'pathInfo' | 'readNarInto'>
  names: Pick<NameIndex, 'samePackage'>
  index: Pick<LeafIndex, 'nar' | 'node'>
  blocks: Pick<LocalBlocks, 'lend' | 'lendLeaf'>
  /** Whether others may hear that it is here. */
  mayName: (info: NarInfo) => boolean
  log: Log
}): OlderLeaves {
  const { store, names, index, blocks, mayName, log } = deps
  const slots = createSlots(OLDER_LEAVES_COUNT)
  const buffers = createLeafBuffers(OLDER_LEAVES_COUNT)

  /** The same name first, then the same output, then the size that is nearest. */
  const nearest = ({
    storePath,
    narHash,
    narSize,
  }: Parameters<OlderLeaves['of']>[0]): OlderNar | undefined => {
    const name = nameOf(storePath)
    const found = names
      .samePackage(splitName(name).packageName, OLDER_LOOKED_COUNT)
      .flatMap((path) => {
        const info = path === storePath ? undefined : store.pathInfo(hashPartOf(path))
        if (info === undefined || info.narHash === narHash || info.narSize === 0) return []
        const other = nameOf(path)
        const rank = [
          Number(other !== name),
          Number(outputOf(other) !== outputOf(name)),
          Math.abs(Math.log(info.narSize / narSize)),
        ] as const
        return [{ info, rank }]
      })
      .sort(({ rank: a }, { rank: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])
    const old = found.find(({ info }) => {
      const told = narInfoOfPath(info)
      return told !== undefined && mayName(told)
    })?.info
    return old && { ...old, root: index.nar(old.narHash)?.root }
  }

  const leavesOf = (nar: OlderNar): OldLeafAt => {
    const { root } = nar
    return root === undefined
      ? storedLeaves(nar, { store, blocks, slots, buffers })
      : indexedLeaves({ ...nar, root }, { index, blocks })
  }

  return {
    nearest,
    of(wanted) {
      let at: OldLeafAt | undefined
      return (offset, options) => {
        try {
          if (at === undefined) {
            const nar = nearest(wanted)
            at = nar === undefined ? () => undefined : leavesOf(nar)
          }
          return at(offset, options)
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
