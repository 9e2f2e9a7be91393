import { leafCount, LEAF_BYTES } from '../dag/profile.ts'
import { PROOF_MAX_AGE_MS, PROOF_SETTLED_COARSE_MS, PROOF_SETTLED_MS, PROOFS_MAX_COUNT } from '../limits.ts'
import type { Stamp } from '../store/stamp.ts'
import { createFading } from './fading.ts'

/**
 * Which leaves this process has hashed and found right, as long as the files they were read from stay as they were: a
 * leaf need not be hashed again each time it goes out (docs/adr/012).
 */
export interface Proofs {
  /**
   * How many leaves from this one on were hashed, whatever became of their files since, and lay in the very same files: then
   * one stamp of them together is the stamp of each. At most as many as asked for; 0 when this one was not.
   */
  alike(place: string, leaf: LeafPlace, atMost: number): number
  /** Whether bytes that were just read with this stamp are those that were hashed. */
  has(place: string, leaf: LeafPlace, stamp: Stamp): boolean
  /** They were just read, with this stamp, and their hash is right. */
  add(place: string, leaf: LeafPlace, stamp: Stamp): void
}

interface LeafPlace {
  readonly narSize: number
  readonly offset: number
}

interface Proved {
  /** By leaf: 0 is not proved, else 1 + the place of the mark in `marks`. */
  readonly leaves: Uint8Array
  readonly marks: string[]
}

/** A path's files may have changed at different times, but hardly at so many: then it begins anew. */
const MARKS_MAX_COUNT = 255

export function createProofs(deps: { clock: () => number }): Proofs {
  const { clock } = deps
  const places = createFading<string, Proved>({ max: PROOFS_MAX_COUNT, maxAgeMs: PROOF_MAX_AGE_MS, clock })
  const markOf = (place: string, { offset }: LeafPlace): string | undefined => {
    const proved = places.get(place)
    return proved?.marks[(proved.leaves[offset / LEAF_BYTES] ?? 0) - 1]
  }
  return {
    alike(place, { offset }, atMost) {
      const leaves = places.get(place)?.leaves
      const first = offset / LEAF_BYTES
      const mark = leaves?.[first] ?? 0
      if (mark === 0) return 0
      let count = 1
      while (count < atMost && leaves?.[first + count] === mark) count += 1
      return count
    },
    has: (place, leaf, { mark }) => markOf(place, leaf) === mark,
    add(place, { narSize, offset }, { mark, changedMs }) {
      // A second write within the same tick of the kernel's clock would leave no trace.
      const settledMs = changedMs % 1000 === 0 ? PROOF_SETTLED_COARSE_MS : PROOF_SETTLED_MS
      if (clock() - changedMs < settledMs) return
      let proved = places.get(place)
      if (proved === undefined || proved.leaves.length !== leafCount(narSize)) {
        proved = { leaves: new Uint8Array(leafCount(narSize)), marks: [] }
        places.set(place, proved)
      }
      let number = proved.marks.indexOf(mark) + 1
      if (number === 0 && proved.marks.length < MARKS_MAX_COUNT) number = proved.marks.push(mark)
      proved.leaves[offset / LEAF_BYTES] = number
    },
  }
}
