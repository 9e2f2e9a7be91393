/**
 * Older paths that a wanted one may be made of: those of the same name and NarSize, and which of their references has
 * become which. Nothing here is proved; NarHash or leaves do that.
 */
import { PAIRINGS_MAX_COUNT, RELATIVES_LOOKED_COUNT, RELATIVES_MAX_COUNT } from '../limits.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import { splitName } from '../nix/package-name.ts'
import type { Rewrite } from '../nix/rewriter.ts'
import { hashPartOf, nameOf } from '../nix/store-path.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { LocalStore } from './local-store.ts'
import type { NameIndex } from './name-index.ts'

export interface Relative {
  readonly storePath: StorePath
  /**
   * What would turn its NAR into the wanted one: one way for each order of references that have one name, the most likely
   * first. At least one.
   */
  readonly pairings: readonly (readonly Rewrite[])[]
  /**
   * Each reference of either path has its pair. Else the whole cannot be right, for Nix finds references where their hash
   * parts are: one of the old path's would be left, or one of the new path's missing.
   */
  readonly isComplete: boolean
}

type Path = Pick<SignedFields, 'storePath' | 'references'>

/** RELATIVES_MAX_COUNT at most. Those of which the whole may be right come first, then the newest. */
export function findRelatives(
  wanted: SignedFields,
  deps: {
    store: Pick<LocalStore, 'pathInfo'>
    names: Pick<NameIndex, 'sameName'>
    /** Pairs that proved right in another path. */
    isKnown: (rewrite: Rewrite) => boolean
  },
): Relative[] {
  const { storePath, narSize, narHash } = wanted
  return deps.names
    .sameName(nameOf(storePath), narSize, RELATIVES_LOOKED_COUNT)
    .flatMap((path): Relative[] => {
      const info = path === storePath ? undefined : deps.store.pathInfo(hashPartOf(path))
      if (info === undefined) return []
      // The very same bytes under another hash part: they name neither.
      if (info.narHash === narHash) return [{ storePath: path, pairings: [[]], isComplete: true }]
      return [{ storePath: path, ...pairReferences(info, wanted, deps.isKnown) }]
    })
    .sort((a, b) => Number(b.isComplete) - Number(a.isComplete))
    .slice(0, RELATIVES_MAX_COUNT)
}

/**
 * References by name, what is left by package name where the names are equally long, each path with itself. One that both
 * have stays as it is.
 */
export function pairReferences(
  old: Path,
  wanted: Path,
  isKnown: (rewrite: Rewrite) => boolean = () => false,
): Omit<Relative, 'storePath'> {
  const before = new Set(old.references)
  const after = new Set(wanted.references)
  const refersToItself = before.delete(old.storePath)
  const alike = refersToItself === after.delete(wanted.storePath)
  const byName = pairBy(
    nameOf,
    [...before].filter((path) => !after.has(path)),
    [...after].filter((path) => !before.has(path)),
  )
  const byPackage = pairBy(
    (path) => `${path.length} ${splitName(nameOf(path)).packageName}`,
    byName.oldLeft,
    byName.newLeft,
  )
  const itself: Rewrite = { from: old.storePath, to: wanted.storePath }
  const groups = [...byName.groups, ...byPackage.groups]
  const pairings = [...ordersOf(groups, isKnown)].map((pairs) => [itself, ...pairs])
  return { pairings, isComplete: alike && byPackage.oldLeft.length + byPackage.newLeft.length === 0 }
}

/** As many old paths as new ones, each to become one of them. */
interface Group {
  readonly olds: readonly StorePath[]
  readonly news: readonly StorePath[]
}

function pairBy(
  key: (path: StorePath) => string,
  olds: readonly StorePath[],
  news: readonly StorePath[],
): { groups: Group[]; oldLeft: StorePath[]; newLeft: StorePath[] } {
  const newsByKey = Map.groupBy(news, key)
  const groups: Group[] = []
  const oldLeft: StorePath[] = []
  for (const [name, same] of Map.groupBy(olds, key)) {
    const others = newsByKey.get(name) ?? []
    newsByKey.delete(name)
    const count = Math.min(same.length, others.length)
    if (count > 0) groups.push({ olds: same.slice(0, count), news: others.slice(0, count) })
    oldLeft.push(...same.slice(count))
    newsByKey.set(name, others.slice(count))
  }
  return { groups, oldLeft, newLeft: [...newsByKey.values()].flat() }
}

/** PAIRINGS_MAX_COUNT at most. Pairs that are known are in the first ones. */
function* ordersOf(
  groups: readonly Group[],
  isKnown: (rewrite: Rewrite) => boolean,
): Generator<Rewrite[], void, undefined> {
  const certain = groups.filter(({ olds }) => olds.length === 1).flatMap((group) => zip(group, group.news))
  const ambiguous = groups.filter(({ olds }) => olds.length > 1)
  let count = 0
  const combine = function* (at: number, pairs: readonly Rewrite[]): Generator<Rewrite[], void, undefined> {
    const group = ambiguous[at]
    if (group === undefined) {
      count += 1
      yield [...certain, ...pairs]
      return
    }
    for (const order of permutations(knownFirst(group, isKnown))) {
      yield* combine(at + 1, [...pairs, ...zip(group, order)])
      if (count >= PAIRINGS_MAX_COUNT) return
    }
  }
  yield* combine(0, [])
}

function zip({ olds }: Group, news: readonly StorePath[]): Rewrite[] {
  return olds.flatMap((from, at) => {
    const to = news[at]
    return to === undefined ? [] : [{ from, to }]
  })
}

/** The new paths, in the order of the old ones as far as pairs are known. */
function knownFirst({ olds, news }: Group, isKnown: (rewrite: Rewrite) => boolean): StorePath[] {
  const left = new Set(news)
  const known = olds.map((from) => {
    const to = [...left].find((one) => isKnown({ from, to: one }))
    if (to !== undefined) left.delete(to)
    return to
  })
  const others = [...left]
  return known.flatMap((to) => to ?? others.shift() ?? [])
}

/** The given order first, then those that differ from it at the end. */
function* permutations(paths: readonly StorePath[]): Generator<StorePath[], void, undefined> {
  if (paths.length <= 1) {
    yield [...paths]
    return
  }
  for (const [at, first] of paths.entries()) {
    for (const rest of permutations(paths.toSpliced(at, 1))) yield [first, ...rest]
  }
}
