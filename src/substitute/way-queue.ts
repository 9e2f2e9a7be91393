import type { Way } from './ways.ts'

/** The ways of one round, each once; one that was taken in vain may be put back. */
export interface WayQueue {
  /** Undefined when all were taken. */
  take(): Promise<Way | undefined>
  /** Before the others. */
  giveBack(way: Way): void
  /** After all others. */
  putOff(way: Way): void
}

/** @param without ways that nobody wants any more */
export function createWayQueue(
  ways: AsyncGenerator<Way, void, undefined>,
  without: (way: Way) => boolean,
): WayQueue {
  const back: Way[] = []
  const last: Way[] = []
  const take = async (): Promise<Way | undefined> => {
    const way = back.pop() ?? ((await ways.next()).value as Way | undefined) ?? last.shift()
    return way !== undefined && without(way) ? take() : way
  }
  return { take, giveBack: (way) => back.push(way), putOff: (way) => last.push(way) }
}
