import type { BestEffort } from '../state/best-effort.ts'
import type { LeafIndex } from './leaf-index.ts'

/**
 * The index for who gives bytes out: a row that cannot be written costs a second hashing later, never an answer. Who
 * publishes takes the index itself, for what he told others must be found.
 */
export function forgetfulIndex(index: LeafIndex, bestEffort: BestEffort): LeafIndex {
  return {
    ...index,
    put: (plan, where) => void bestEffort(() => index.put(plan, where)),
    addPath: (narHash, storePath) => void bestEffort(() => index.addPath(narHash, storePath)),
    removePath: (narHash, storePath) => void bestEffort(() => index.removePath(narHash, storePath)),
    setShared: (narHash, shared) => void bestEffort(() => index.setShared(narHash, shared)),
    setInSpool: (narHash, inSpool) => void bestEffort(() => index.setInSpool(narHash, inSpool)),
    drop: (narHash) => void bestEffort(() => index.drop(narHash)),
  }
}
