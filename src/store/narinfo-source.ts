import { plainNarInfo } from '../nix/narinfo.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import type { NarInfoSource } from '../source.ts'
import { COST } from '../source.ts'
import type { LocalStore } from './local-store.ts'
import type { PathInfo } from './path-info.ts'

/** Valid paths of the local store, with the signatures that its database has. Their bytes need no source: they are here. */
export function storeNarInfos(store: LocalStore): NarInfoSource {
  return {
    id: 'store',
    cost: COST.local,
    async lookup(hashPart) {
      const path = store.pathInfo(hashPart)
      const info = path && narInfoOfPath(path)
      return info && { info, from: 'store' }
    },
  }
}

/** What the database says of a path, as a narinfo; undefined without the size, as no signature could cover that. */
export function narInfoOfPath(path: PathInfo): NarInfo | undefined {
  return path.narSize === 0 ? undefined : plainNarInfo(path)
}
