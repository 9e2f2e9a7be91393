/**
 * Writes that go on while the next bytes are hashed, a few at most. Order and failure are the writer's: after one has
 * failed no later one is written.
 */
export interface WriteBehind {
  /** Resolves when there is room for another one. @throws what an earlier write threw */
  add(write: Promise<void>): Promise<void>
  /** Resolves when all are done. @throws what one of them threw */
  drain(): Promise<void>
}

/** @param limit how many are under way at most */
export function createWriteBehind(limit: number): WriteBehind {
  const pending: Promise<void>[] = []
  const oldest = async (): Promise<void> => pending.shift()
  return {
    async add(write) {
      // Looked at in its turn.
      write.catch(() => {})
      pending.push(write)
      if (pending.length >= limit) await oldest()
    },
    async drain() {
      while (pending.length > 0) await oldest()
    },
  }
}
