/** How many leaves each transfer may have in memory or under way: a share of what all may have together (P6). */
export interface LeafShares {
  join(): LeafShare
}

interface LeafShare {
  /** By now; less when others join. At least one. */
  readonly count: () => number
  leave(): void
}

/** @param most of all together, and of one */
export function createLeafShares(most: { total: number; each: number }): LeafShares {
  let members = 0
  return {
    join() {
      members += 1
      let joined = true
      return {
        count: () => Math.max(1, Math.min(most.each, Math.floor(most.total / members))),
        leave() {
          if (joined) members -= 1
          joined = false
        },
      }
    },
  }
}
