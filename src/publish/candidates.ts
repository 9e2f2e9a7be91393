/** The paths a publisher was asked to publish, with their closure, references first. */
import { PUBLISH_MAX_PATHS_COUNT } from '../limits.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart, StorePath } from '../nix/store-path.ts'
import type { CallOptions, NarInfoSource, StreamSource } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import { PublishError } from './errors.ts'

/** A path that may be published, and where its bytes are. */
export interface Candidate {
  readonly info: NarInfo
  /** Bytes lie in the local store, and stay there. */
  readonly inStore: boolean
  /** Bytes come from a binary cache, and go into the spool. */
  readonly stream: StreamSource | undefined
}

/** @throws PublishError when one of the paths is not valid in the store */
export function fromStore(store: LocalStore, paths: readonly StorePath[]): Candidate[] {
  for (const path of paths) {
    if (store.pathInfo(hashPartOf(path)) === undefined) {
      throw new PublishError(
        `expected a valid path of the local store, got ${path}, which is not in its database`,
      )
    }
  }
  return store.closure(paths).map(({ deriver: _deriver, ca: _ca, ...info }) => ({
    info: { ...info, url: `nar/${info.narHash}.nar`, compression: 'none' },
    inStore: true,
    stream: undefined,
  }))
}

/** @throws PublishError when the cache lacks one of the paths or a reference of theirs */
export async function fromCache(
  cache: NarInfoSource,
  asked: readonly HashPart[],
  options: CallOptions,
): Promise<Candidate[]> {
  const found = new Map<HashPart, Candidate>()
  const visit = async (hashPart: HashPart, wantedBy: string): Promise<void> => {
    if (found.has(hashPart)) return
    if (found.size >= PUBLISH_MAX_PATHS_COUNT) {
      throw new PublishError(`expected at most ${PUBLISH_MAX_PATHS_COUNT} paths in one call, got more`)
    }
    const candidate = await cache.lookup(hashPart, options)
    if (candidate === undefined) {
      throw new PublishError(`${cache.id} does not have ${hashPart}, wanted by ${wantedBy}`)
    }
    const { info, stream } = candidate
    if (hashPartOf(info.storePath) !== hashPart) {
      throw new PublishError(`asked ${cache.id} for ${hashPart}, got a narinfo of ${info.storePath}`)
    }
    // Marked before its references, taken out and put behind them after: order without recursion into itself.
    const one = { info, inStore: false, stream }
    found.set(hashPart, one)
    for (const reference of info.references) await visit(hashPartOf(reference), info.storePath)
    found.delete(hashPart)
    found.set(hashPart, one)
  }
  for (const hashPart of asked) await visit(hashPart, 'the command line')
  return [...found.values()]
}
