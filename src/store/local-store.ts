import type { Log } from '../log.ts'
import type { HashPart, StorePath } from '../nix/store-path.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { StorePathChangedError, StorePathNotValidError } from './errors.ts'
import { createLayoutCache } from './layout-cache.ts'
import type { LayoutCache, StoreLayout } from './layout-cache.ts'
import { createNarReader, readNarInto, streamNar } from './nar-stream.ts'
import type { NarReader } from './nar-stream.ts'
import { openPathInfos } from './path-info.ts'
import type { PathInfo, PathInfos } from './path-info.ts'
import type { Stamp } from './stamp.ts'

/** The Nix store of this machine, read only: path info from its database, NARs from its files. No daemon, no process. */
export interface LocalStore {
  readonly storeDir: string
  /** Valid paths only. */
  pathInfo(hashPart: HashPart): PathInfo | undefined
  /** All of them by their rows, for an index. */
  readonly registered: Pick<PathInfos, 'byId' | 'after' | 'changeMark'>
  /** The paths and all they refer to, each once, references before their referrers. @throws StorePathNotValidError */
  closure(paths: readonly StorePath[]): PathInfo[]
  /**
   * Bytes of the NAR of a valid path, all of it or a range: made from the files, not proved by the NarHash. They throw
   * @throws StorePathNotValidError, before the first byte
   * @throws StorePathChangedError, at any byte, when the files are not what they should be
   * @throws NarTreeError, before the first byte, for what the newest Nix would not unpack
   */
  readNar(path: StorePath, range: ByteRange | undefined, options: CallOptions): AsyncIterable<Uint8Array>
  /** The same bytes of a range into a buffer as long as it is. @throws as `readNar` */
  readNarInto(path: StorePath, range: ByteRange, target: Uint8Array, options: CallOptions): Promise<Stamp>
  /** The same for who reads many ranges: whether the path is valid is looked at once, its files each time. @throws as `readNar` */
  openNar(path: StorePath, options: CallOptions): Promise<NarReader>
  close(): void
}

export interface LocalStoreConfig {
  /** Logical, as in store paths: `/nix/store`. */
  storeDir: string
  /** Physical prefix, as in `nix-store --store ROOT`: files are in ROOT/nix/store, state in ROOT/nix/var/nix. */
  root?: string
  /** Where Nix keeps `db/db.sqlite`; `/nix/var/nix` below the root when absent. */
  stateDir?: string
}

/** @throws StoreUnavailableError when there is no database that can be read */
export function openLocalStore(config: LocalStoreConfig, deps: { log: Log }): LocalStore {
  const { storeDir, root, stateDir = `${root ?? ''}/nix/var/nix` } = config
  // Nix itself takes ROOT/nix/store whatever the logical directory is (libstore/local-fs-store.hh, "real").
  const directory = root === undefined ? storeDir : `${root}/nix/store`
  const infos = openPathInfos({ database: `${stateDir}/db/db.sqlite`, storeDir }, deps)
  const layouts = createLayoutCache()
  return {
    storeDir,
    pathInfo: (hashPart) => infos.byHashPart(hashPart),
    registered: infos,
    closure: (paths) => infos.closure(paths),
    readNar: (path, range, options) => readNar({ infos, layouts, directory }, path, range, options),
    readNarInto: (path, range, target, options) =>
      withLayout({ infos, layouts, directory }, path, options, (layout) =>
        readNarInto(layout, range, target),
      ),
    async openNar(path, options) {
      const layout = await withLayout({ infos, layouts, directory }, path, options, (found) =>
        Promise.resolve(found),
      )
      return createNarReader(layout)
    },
    close() {
      layouts.close()
      infos.close()
    },
  }
}

interface StoreParts {
  infos: PathInfos
  layouts: LayoutCache
  directory: string
}

async function* readNar(
  parts: StoreParts,
  path: StorePath,
  range: ByteRange | undefined,
  options: CallOptions,
): AsyncGenerator<Uint8Array> {
  const layout = await withLayout(parts, path, options, (found) => Promise.resolve(found))
  try {
    yield* streamNar(layout, range ?? { start: 0, end: layout.narSize }, options)
  } catch (error) {
    if (error instanceof StorePathChangedError) parts.layouts.drop(`${parts.directory}/${path}`)
    throw error
  }
}

/** A layout that proves wrong is not used again. */
async function withLayout<T>(
  { infos, layouts, directory }: StoreParts,
  path: StorePath,
  options: CallOptions,
  use: (layout: StoreLayout) => Promise<T>,
): Promise<T> {
  const narSize = infos.narSizeOf(path)
  if (narSize === undefined) throw new StorePathNotValidError(path)
  const physicalPath = `${directory}/${path}`
  try {
    const layout = await layouts.get(physicalPath, options)
    if (narSize !== 0 && narSize !== layout.narSize)
      throw new StorePathChangedError(
        `${path} makes a NAR of ${layout.narSize} bytes, Nix registered ${narSize}`,
      )
    return await use(layout)
  } catch (error) {
    if (error instanceof StorePathChangedError) layouts.drop(physicalPath)
    throw error
  }
}
