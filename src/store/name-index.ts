/**
 * Which valid paths have a name: Nix's database is indexed by path, where the hash part comes first. In memory, 16 bytes a
 * path; it only says maybe, and the row decides, so that nothing need be told of a path that was collected.
 */
import { setImmediate } from 'node:timers/promises'
import { NAME_INDEX_RECENT_COUNT, NAME_INDEX_ROWS_COUNT, NAME_INDEX_TURN_COUNT } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { splitName } from '../nix/package-name.ts'
import { nameOf } from '../nix/store-path.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { PathInfos, RegisteredPath } from './path-info.ts'

export interface NameIndex {
  /** Valid paths of this name, hash part aside, and NarSize: newest first, `max` at most. */
  sameName(name: string, narSize: number, max: number): StorePath[]
  /** Valid paths whose names have this package name (`splitName`), in any version: newest first, `max` at most. */
  samePackage(packageName: string, max: number): StorePath[]
  /** Resolves when all that was registered at the start is in. Until then less is found. */
  readonly filled: Promise<void>
  close(): void
}

/** Derivations are left out: half of the paths of some stores, and never worth a second look. */
const DERIVATION = '.drv'

/**
 * What is new is what has a higher id than the last look-up saw: one step in a tree, the same as asking SQLite whether
 * anything changed (`PRAGMA data_version`), and it says what.
 */
export function createNameIndex(
  registered: Pick<PathInfos, 'byId' | 'after'>,
  deps: { log: Log },
): NameIndex {
  let names = createKeys()
  let packages = createKeys()
  let lastId = 0
  let added = 0
  /** Paths that were there when it was last filled from the start. */
  let filledWith = Infinity
  let filling = false
  const closing = new AbortController()

  /** @returns whether there may be more */
  function addNext(): boolean {
    const before = lastId
    const next = registered.after(lastId, NAME_INDEX_TURN_COUNT)
    lastId = next.lastId
    for (const { id, storePath, narSize } of next.paths) {
      if (storePath.endsWith(DERIVATION)) continue
      const name = nameOf(storePath)
      names.add(nameKey(name, narSize), id)
      packages.add(splitName(name).packageName, id)
      added += 1
    }
    return lastId !== before
  }

  async function fill(): Promise<void> {
    filling = true
    try {
      while (!closing.signal.aborted && addNext()) await setImmediate()
      filledWith = Math.min(filledWith, added)
    } catch (error) {
      deps.log.warn({}, `names of the local store not read to the end: ${messageOf(error)}`)
    } finally {
      filling = false
    }
  }

  function catchUp(): void {
    if (filling || closing.signal.aborted) return
    // Of those that came meanwhile as many may be gone: begun anew, so that memory follows the store.
    if (added > 2 * filledWith + NAME_INDEX_RECENT_COUNT) {
      names = createKeys()
      packages = createKeys()
      lastId = 0
      added = 0
      filledWith = Infinity
      void fill()
    } else if (addNext()) void fill()
  }

  function find(keys: Keys, text: string, max: number, fits: (path: RegisteredPath) => boolean): StorePath[] {
    catchUp()
    const found: StorePath[] = []
    let looked = 0
    for (const id of keys.newestFirst(text)) {
      const path = registered.byId(id)
      if (path !== undefined && fits(path)) found.push(path.storePath)
      looked += 1
      if (found.length >= max || looked >= NAME_INDEX_ROWS_COUNT) break
    }
    return found
  }

  const filled = fill()
  return {
    sameName: (name, narSize, max) =>
      find(
        names,
        nameKey(name, narSize),
        max,
        (path) => path.narSize === narSize && nameOf(path.storePath) === name,
      ),
    samePackage: (packageName, max) =>
      find(
        packages,
        packageName,
        max,
        ({ storePath }) => splitName(nameOf(storePath)).packageName === packageName,
      ),
    filled,
    close() {
      closing.abort()
    },
  }
}

function nameKey(name: string, narSize: number): string {
  return `${narSize} ${name}`
}

/** Numbers by text, where texts are kept as 21 bits of hash: what is found may belong to another one. */
interface Keys {
  /** Each id once, in rising order. */
  add(text: string, id: number): void
  newestFirst(text: string): Generator<number, void, undefined>
}

/** A hash and an id share the 53 bits of a number: ids of a database in use for years have some 24 bits. */
const ID_RANGE = 2 ** 32

function createKeys(): Keys {
  /** Hash, then id. */
  let sorted = new Float64Array(0)
  /** In the order they came; moved over when there are NAME_INDEX_RECENT_COUNT of them. */
  let recent: number[] = []

  return {
    add(text, id) {
      recent.push(hash21(text) * ID_RANGE + id)
      if (recent.length < NAME_INDEX_RECENT_COUNT) return
      sorted = merge(sorted, Float64Array.from(recent).sort())
      recent = []
    },
    *newestFirst(text) {
      const low = hash21(text) * ID_RANGE
      const high = low + ID_RANGE
      for (let at = recent.length - 1; at >= 0; at -= 1) {
        const key = recent[at] ?? 0
        if (key >= low && key < high) yield key - low
      }
      const keys = sorted
      for (let at = firstNotBelow(keys, high) - 1; at >= 0; at -= 1) {
        const key = keys[at] ?? 0
        if (key < low) return
        yield key - low
      }
    },
  }
}

function merge(a: Float64Array, b: Float64Array): Float64Array<ArrayBuffer> {
  const merged = new Float64Array(a.length + b.length)
  for (let at = 0, left = 0, right = 0; at < merged.length; at += 1) {
    const first = a[left] ?? Infinity
    const second = b[right] ?? Infinity
    if (first <= second) left += 1
    else right += 1
    merged[at] = Math.min(first, second)
  }
  return merged
}

/** Bisection. */
function firstNotBelow(sorted: Float64Array, key: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] ?? 0) < key) low = middle + 1
    else high = middle
  }
  return low
}

/** FNV-1a, folded. */
function hash21(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return (hash >>> 11) ^ (hash & 0x7ff)
}
