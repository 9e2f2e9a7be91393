/**
 * What others may have from us: narinfos and NARs of paths that are here and shared, out of the spool or of the store as it
 * lies. There is no way to list them, only to ask for one by its name.
 */
import type { CID } from 'multiformats/cid'
import type { NarHash } from '../nix/hash.ts'
import type { HashPart } from '../nix/store-path.ts'
import type { ByteRange, ReadOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import { BlockUnavailableError } from '../substitute/errors.ts'
import { readLocalNar } from '../substitute/local-nar.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import { PolicyError } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { StoreNar } from './first-read.ts'
import type { SharePolicy } from './share-policy.ts'
import type { StoreHoldings } from './store-holdings.ts'

export interface SharedNar {
  readonly narSize: number
  /** Every leaf is hashed before it leaves; of a NAR that is read for the first time, all of it before its end does. */
  read(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
}

export interface Holdings {
  narInfo(hashPart: HashPart): VerifiedNarInfo | undefined
  openNar(narHash: NarHash): SharedNar | undefined
  /** Of the NAR whose DAG has this root; undefined when it is not shared. */
  narSizeOf(root: CID): number | undefined
}

type IndexedNar = NonNullable<ReturnType<LeafIndex['nar']>>

export function createHoldings(deps: {
  policy: SharePolicy
  table: NarInfoTable
  index: LeafIndex
  blocks: LocalBlocks
  /** Absent on a machine without a Nix store. */
  inStore?: StoreHoldings | undefined
  /** Somebody asked for a NAR of the store whose root is not known. */
  wanted?: (nar: StoreNar) => void
}): Holdings {
  const { policy, table, index, blocks, inStore, wanted } = deps

  /** By the index, and still here: Nix may have collected it since. */
  const indexed = (narHash: NarHash): IndexedNar | undefined => {
    const nar = index.nar(narHash)
    if (nar?.shared !== true) return undefined
    const isHere = nar.inSpool || nar.storePaths.some((path) => inStore?.has(narHash, path) === true)
    return isHere ? nar : undefined
  }

  const fromTable = (hashPart: HashPart): VerifiedNarInfo | undefined => {
    const info = table.byHashPart(hashPart)
    const nar = info && indexed(info.narHash)
    if (info === undefined || nar === undefined) return undefined
    try {
      return policy.verify({ ...info, cid: nar.root.toString() }, hashPart)
    } catch (error) {
      if (error instanceof PolicyError) return undefined
      throw error
    }
  }

  const fromStore = (hashPart: HashPart): VerifiedNarInfo | undefined => {
    const info = inStore?.narInfo(hashPart)
    if (info === undefined || inStore === undefined) return undefined
    if (!inStore.enter(info)) wanted?.(info)
    // Also when the index could not be written.
    if (index.nar(info.narHash) === undefined) inStore.remember(info)
    return info
  }

  async function* readIndexed(
    narHash: NarHash,
    nar: IndexedNar,
    range: ByteRange,
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* readLocalNar({ ...nar, narHash }, range, blocks, 'shared', options)
    } catch (error) {
      const [storePath] = nar.storePaths
      // Nobody is told of it again, only to find it wrong.
      if (error instanceof BlockUnavailableError && storePath !== undefined) {
        inStore?.reads.markBad({ narHash, narSize: nar.narSize, storePath }, error)
      }
      throw error
    }
  }

  return {
    narInfo: (hashPart) => fromTable(hashPart) ?? fromStore(hashPart),
    narSizeOf(root) {
      const nar = index.narOfRoot(root.multihash.digest)
      return nar?.shared === true ? nar.narSize : undefined
    },
    openNar(narHash) {
      const nar = indexed(narHash)
      if (nar !== undefined) {
        return { narSize: nar.narSize, read: (range, options) => readIndexed(narHash, nar, range, options) }
      }
      const info = inStore?.byNarHash(narHash)
      if (info === undefined || inStore === undefined) return undefined
      const { reads } = inStore
      return { narSize: info.narSize, read: (range, options) => reads.read(info, range, options) }
    },
  }
}
