/**
 * What others may have from us: narinfos and NARs of paths that are here and shared. There is no way to list them,
 * only to ask for one by its name.
 */
import type { CID } from 'multiformats/cid'
import type { NarHash } from '../nix/hash.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { ByteRange, ReadOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import { readLocalNar } from '../substitute/local-nar.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import { PolicyError } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { SharePolicy } from './share-policy.ts'

export interface SharedNar {
  readonly narSize: number
  /** Every leaf is hashed before it leaves. */
  read(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
}

export interface Holdings {
  narInfo(hashPart: HashPart): VerifiedNarInfo | undefined
  openNar(narHash: NarHash): SharedNar | undefined
  /** Of the NAR whose DAG has this root; undefined when it is not shared. */
  narSizeOf(root: CID): number | undefined
}

export function createHoldings(deps: {
  policy: SharePolicy
  table: NarInfoTable
  index: LeafIndex
  blocks: LocalBlocks
}): Holdings {
  const { policy, table, index, blocks } = deps
  return {
    narInfo(hashPart) {
      const info = table.byHashPart(hashPart)
      if (info === undefined || index.nar(info.narHash)?.shared !== true) return undefined
      try {
        return policy.verify(info, hashPart)
      } catch (error) {
        if (error instanceof PolicyError) return undefined
        throw error
      }
    },
    narSizeOf(root) {
      const nar = index.narOfRoot(root.multihash.digest)
      return nar?.shared === true ? nar.narSize : undefined
    },
    openNar(narHash) {
      const nar = index.nar(narHash)
      if (nar?.shared !== true) return undefined
      return {
        narSize: nar.narSize,
        read: (range, options) => readLocalNar({ ...nar, narHash }, range, blocks, 'shared', options),
      }
    },
  }
}
