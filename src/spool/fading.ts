import { LRUCache } from 'lru-cache'

/**
 * What is known for a while only: `max` of the latest, each for `maxAgeMs` by the clock that is handed in. To the
 * millisecond, for by default the cache looks at the clock no oftener than a timer of its own lets it.
 */
export function createFading<K extends string, V extends {}>(config: {
  max: number
  maxAgeMs: number
  clock: () => number
}): LRUCache<K, V> {
  const { max, maxAgeMs, clock } = config
  return new LRUCache({ max, ttl: maxAgeMs, ttlResolution: 0, perf: { now: clock } })
}
