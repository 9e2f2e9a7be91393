/** What others may have of the Nix store as it lies: valid paths that a share key signed, by Nix's own database. */
import { rawCid } from '../dag/cid.ts'
import { planSmallNar } from '../dag/planner.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { narHashDigest } from '../nix/hash.ts'
import type { NarHash } from '../nix/hash.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart, StorePath } from '../nix/store-path.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalStore } from '../store/local-store.ts'
import { narInfoOfPath } from '../store/narinfo-source.ts'
import { PolicyError } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { AskedPaths } from './asked-paths.ts'
import type { StoreNar } from './first-read.ts'
import type { FirstReads } from './first-reads.ts'
import type { SharePolicy } from './share-policy.ts'

export interface StoreHoldings {
  /** With its CID, where that is known. Opens no file. */
  narInfo(hashPart: HashPart): VerifiedNarInfo | undefined
  /**
   * Puts a path that `narInfo` gave into the index, so that its bytes are found by NarHash and by CID.
   *
   * @returns false for one whose leaves are not known: it has to be read first
   */
  enter(nar: StoreNar): boolean
  /** Others were told of it, and it is not in the index. */
  remember(nar: StoreNar): void
  /** One that was remembered. */
  byNarHash(narHash: NarHash): VerifiedNarInfo | undefined
  /** Whether the path is valid, with this NAR, and its bytes were not found to be others. */
  has(narHash: NarHash, storePath: StorePath): boolean
  readonly reads: FirstReads
}

export function createStoreHoldings(deps: {
  policy: SharePolicy
  store: Pick<LocalStore, 'pathInfo'>
  index: LeafIndex
  asked: AskedPaths
  reads: FirstReads
}): StoreHoldings {
  const { policy, store, index, asked, reads } = deps

  const narInfo: StoreHoldings['narInfo'] = (hashPart) => {
    const path = store.pathInfo(hashPart)
    const info = path && narInfoOfPath(path)
    if (info === undefined || reads.isBad(info.narHash)) return undefined
    const { narHash, narSize } = info
    const root = narSize > LEAF_BYTES ? index.nar(narHash)?.root : rawCid(narHashDigest(narHash))
    try {
      return policy.verify(root === undefined ? info : { ...info, cid: root.toString() }, hashPart)
    } catch (error) {
      if (error instanceof PolicyError) return undefined
      throw error
    }
  }

  return {
    reads,
    narInfo,
    enter({ narHash, narSize, storePath }) {
      const known = index.nar(narHash)
      if (known === undefined) {
        if (narSize > LEAF_BYTES) return false
        // Its NarHash is its CID: nothing of it is read before somebody wants it.
        index.put(planSmallNar(narHash, narSize), { shared: true, storePath, inSpool: false })
        return true
      }
      if (!known.storePaths.includes(storePath)) index.addPath(narHash, storePath)
      if (!known.shared) index.setShared(narHash, true)
      return true
    },
    remember: ({ narHash, storePath }) => asked.remember(narHash, storePath),
    byNarHash(narHash) {
      const paths = asked.of(narHash)
      for (const path of paths) {
        const info = narInfo(hashPartOf(path))
        if (info?.narHash === narHash) return info
      }
      if (paths.length > 0 && !reads.isBad(narHash)) asked.forget(narHash)
      return undefined
    },
    has(narHash, storePath) {
      if (reads.isBad(narHash)) return false
      const path = store.pathInfo(hashPartOf(storePath))
      return path?.narHash === narHash && path.storePath === storePath
    },
  }
}
