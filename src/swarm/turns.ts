/** A queue in which everybody has a turn: who queues a hundred things waits no less than who queues one. */
export interface Turns<T> {
  push(who: string, item: T): void
  /** The next one of somebody who `may` have one now. */
  shift(may?: (who: string) => boolean): T | undefined
  /** Takes it out again; false when it is not there any more. */
  remove(who: string, item: T): boolean
}

export function createTurns<T>(): Turns<T> {
  /** In the order of turns. */
  const queues = new Map<string, T[]>()
  return {
    push(who, item) {
      const queue = queues.get(who)
      if (queue === undefined) queues.set(who, [item])
      else queue.push(item)
    },
    shift(may = () => true) {
      for (const [who, queue] of queues) {
        if (!may(who)) continue
        const item = queue.shift()
        // To the end, behind all others.
        queues.delete(who)
        if (queue.length > 0) queues.set(who, queue)
        return item
      }
      return undefined
    },
    remove(who, item) {
      const queue = queues.get(who)
      const at = queue?.indexOf(item) ?? -1
      if (queue === undefined || at < 0) return false
      queue.splice(at, 1)
      if (queue.length === 0) queues.delete(who)
      return true
    },
  }
}
