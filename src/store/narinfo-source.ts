import type { NarInfoSource } from '../source.ts'
import { COST } from '../source.ts'
import type { LocalStore } from './local-store.ts'

/** Valid paths of the local store, with the signatures that its database has. Their bytes need no source: they are here. */
export function storeNarInfos(store: LocalStore): NarInfoSource {
  return {
    id: 'store',
    cost: COST.local,
    async lookup(hashPart) {
      const path = store.pathInfo(hashPart)
      // A database without the size says nothing that a signature could cover.
      if (path === undefined || path.narSize === 0) return undefined
      const { storePath, narHash, narSize, references, signatures } = path
      const unsigned = { url: `nar/${narHash}.nar`, compression: 'none' } as const
      return { info: { storePath, narHash, narSize, references, signatures, ...unsigned }, from: 'store' }
    },
  }
}
