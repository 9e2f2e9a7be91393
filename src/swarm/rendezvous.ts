/**
 * Who of those near asks upstream for a NAR: all come to the same answer without a word, and each answers for its share
 * of all NARs (highest random weight; Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
 */
import { hash } from 'node:crypto'
import type { NarHash } from '../nix/hash.ts'
import type { NeighbourId } from './neighbours.ts'

/**
 * The weight of one does not depend on who else is there: of two, everybody puts the same one first, whatever else the
 * tables of both hold. So whoever waits for those before it alone never waits in a circle.
 *
 * @returns the same ids, who asks upstream first
 */
export function rendezvousOrder(narHash: NarHash, ids: Iterable<NeighbourId>): NeighbourId[] {
  return [...ids]
    .map((id) => ({ id, weight: hash('sha256', `${narHash} ${id}`) }))
    .toSorted((a, b) => (a.weight < b.weight ? 1 : -1))
    .map(({ id }) => id)
}
