/** What older paths in the store could give of a wanted one, for `explain`: each tried as for a request, and how far it matched. */
import { DIGEST_BYTES } from '../dag/cid.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { EXPLAIN_NODES_DEADLINE_MS, EXPLAIN_OTHERS_COUNT, EXPLAIN_TRIALS_DEADLINE_MS } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { narHashDigest } from '../nix/hash.ts'
import { splitName } from '../nix/package-name.ts'
import { hashPartOf, nameOf } from '../nix/store-path.ts'
import type { CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { NameIndex } from '../store/name-index.ts'
import type { BlockSources } from '../substitute/block-sources.ts'
import { leafLinks } from '../substitute/dag-walk.ts'
import { fetchChildren } from '../substitute/fetch-children.ts'
import type { Offer } from '../substitute/offer.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { Rewriting, TriedRelative } from '../substitute/rewriting.ts'
import { createRoster } from '../substitute/roster.ts'
import type { Scores } from '../substitute/scores.ts'
import { tryRelative } from '../substitute/trial.ts'
import type { Trial } from '../substitute/trial.ts'

export interface OlderPaths {
  /** `off`: by `upgrade.rewrite`; `no-store`: there is no Nix store here. */
  readonly state: 'looked-for' | 'off' | 'no-store'
  readonly paths: readonly OlderPath[]
}

export interface OlderPath {
  readonly path: string
  readonly nar_size: number
  /**
   * `right`: gives the whole NAR. `late`: it was not hashed in time. The last three were not tried: another name, another
   * size, or behind others of the same name and size.
   */
  readonly outcome: Trial['outcome'] | 'late' | 'other-name' | 'other-size' | 'not-tried'
  readonly reason?: string
  /** References of both, how many of them have become or stayed which. */
  readonly references?: { readonly paired: number; readonly of: number }
  readonly leaves?: { readonly right: number; readonly of: number }
  readonly took_ms?: number
  /** Tried in vain within the last hour, so that it is left alone. */
  readonly has_failed?: true
}

export interface OlderPathsDeps {
  readonly store: Pick<LocalStore, 'pathInfo' | 'readNarInto'> | undefined
  /** Absent where `upgrade.rewrite` is off, or there is no store. */
  readonly upgrades:
    { readonly rewriting: Rewriting; readonly names: Pick<NameIndex, 'samePackage' | 'filled'> } | undefined
  readonly blockSources: BlockSources
  readonly scores: Scores
  /** Milliseconds, monotonic. */
  readonly clock: () => number
  readonly log: Log
}

export async function findOlderPaths(
  info: VerifiedNarInfo,
  offer: Offer,
  deps: OlderPathsDeps,
  { signal, storeDir }: CallOptions & { storeDir: string },
): Promise<OlderPaths> {
  const { store, upgrades, clock } = deps
  if (store === undefined) return { state: 'no-store', paths: [] }
  if (upgrades === undefined) return { state: 'off', paths: [] }
  await upgrades.names.filled
  const relatives = upgrades.rewriting.relatives(info)
  const wanted = relatives.length === 0 ? undefined : await leafDigests(info, offer, deps, { signal })
  const deadline = AbortSignal.timeout(EXPLAIN_TRIALS_DEADLINE_MS)
  const paths: OlderPath[] = []
  for (const relative of relatives) {
    const begun = clock()
    const trial = await tryRelative(info, relative, wanted, store, {
      signal: AbortSignal.any([signal, deadline]),
    }).catch((error: unknown) => {
      signal.throwIfAborted()
      if (deadline.aborted) return { outcome: 'late' } as const
      throw error
    })
    const references = pairedOf(info, relative, store)
    paths.push({
      path: `${storeDir}/${relative.storePath}`,
      nar_size: info.narSize,
      ...trial,
      ...(references === undefined ? {} : { references }),
      took_ms: Math.round(clock() - begun),
      ...(relative.hasFailed ? { has_failed: true } : {}),
    })
  }
  return {
    state: 'looked-for',
    paths: [...paths, ...othersOf(info, relatives, { store, upgrades, storeDir })],
  }
}

/** Of the same package, and of no use: what a person may have expected to be one of those above. */
function othersOf(
  info: VerifiedNarInfo,
  relatives: readonly TriedRelative[],
  deps: {
    store: Pick<LocalStore, 'pathInfo'>
    upgrades: NonNullable<OlderPathsDeps['upgrades']>
    storeDir: string
  },
): OlderPath[] {
  const { store, upgrades, storeDir } = deps
  const name = nameOf(info.storePath)
  const known = new Set([info.storePath, ...relatives.map(({ storePath }) => storePath)])
  return upgrades.names
    .samePackage(splitName(name).packageName, EXPLAIN_OTHERS_COUNT + known.size)
    .flatMap((storePath): OlderPath[] => {
      const path = known.has(storePath) ? undefined : store.pathInfo(hashPartOf(storePath))
      if (path === undefined) return []
      const isSame = path.narSize === info.narSize
      const outcome = nameOf(storePath) !== name ? 'other-name' : isSame ? 'not-tried' : 'other-size'
      return [{ path: `${storeDir}/${storePath}`, nar_size: path.narSize, outcome }]
    })
    .slice(0, EXPLAIN_OTHERS_COUNT)
}

function pairedOf(
  wanted: VerifiedNarInfo,
  { storePath, pairings: [pairs = []] }: TriedRelative,
  store: Pick<LocalStore, 'pathInfo'>,
): OlderPath['references'] {
  const old = store.pathInfo(hashPartOf(storePath))
  // The very same bytes need no pairs.
  if (old === undefined || pairs.length === 0) return undefined
  const became = new Map<string, string>(pairs.map(({ from, to }) => [from, to]))
  const after = new Set<string>(wanted.references)
  const before = new Set<string>(old.references)
  const paired = [...before].filter((path) => after.has(became.get(path) ?? path)).length
  return { paired, of: before.size + after.size - paired }
}

/** SHA-256 of each leaf, where somebody told a root and gives the nodes below it; undefined when nobody does. */
async function leafDigests(
  info: VerifiedNarInfo,
  { roots }: Offer,
  deps: OlderPathsDeps,
  { signal }: CallOptions,
): Promise<Uint8Array | undefined> {
  const { narHash, narSize } = info
  if (narSize <= LEAF_BYTES) return narHashDigest(narHash)
  const [told] = roots
  const blockSources = deps.blockSources(info)
  if (told === undefined || blockSources.length === 0) return undefined
  const inner = { signal: AbortSignal.any([signal, AbortSignal.timeout(EXPLAIN_NODES_DEADLINE_MS)]) }
  const roster = createRoster(blockSources, deps)
  try {
    const digests: Uint8Array[] = []
    const links = leafLinks(
      { root: told.root, narSize, from: 0 },
      (link, each) => fetchChildren(link, roster, each),
      inner,
    )
    for await (const { cid } of links) digests.push(cid.multihash.digest)
    return Buffer.concat(digests, digests.length * DIGEST_BYTES)
  } catch (error) {
    signal.throwIfAborted()
    deps.log.debug({ path: info.storePath }, `its leaves are not known: ${messageOf(error)}`)
    return undefined
  }
}
