import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { StorePathChangedError, StorePathNotValidError } from '../../src/store/errors.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import type { PathInfo } from '../../src/store/path-info.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { openByRanges } from '../store/open-by-ranges.ts'

/** A Nix store without a Nix: rows, and the bytes that its files would make. */
export interface MemoryStore extends LocalStore {
  add(info: NarInfo, bytes: Uint8Array): void
  /** Nix collects it. */
  collect(path: StorePath): void
  /** Somebody writes to its files. */
  damage(path: StorePath, bytes: Uint8Array): void
  /** Offsets of the reads so far, in order. */
  readonly reads: { readonly path: StorePath; readonly start: number }[]
}

export function memoryStore(): MemoryStore {
  const rows = new Map<StorePath, { id: number; info: PathInfo; bytes: Uint8Array }>()
  const reads: { path: StorePath; start: number }[] = []
  let ids = 0
  let changes = 0
  let writes = 0
  const range = (path: StorePath, start: number, end: number): Uint8Array => {
    const row = rows.get(path)
    if (row === undefined) throw new StorePathNotValidError(path)
    if (row.bytes.length < end) throw new StorePathChangedError(`${path} has ${row.bytes.length} bytes`)
    reads.push({ path, start })
    return row.bytes.subarray(start, end)
  }
  return {
    storeDir: STORE_DIR,
    reads,
    add({ storePath, narHash, narSize, references, signatures }, bytes) {
      const id = (ids += 1)
      changes += 1
      const row = { storePath, narHash, narSize, references, signatures, ultimate: false, registeredAt: id }
      rows.set(storePath, { id, info: row, bytes })
    },
    collect(path) {
      changes += 1
      rows.delete(path)
    },
    damage(path, bytes) {
      const row = rows.get(path)
      writes += 1
      if (row !== undefined) rows.set(path, { ...row, bytes })
    },
    pathInfo: (hashPart) =>
      [...rows.values()].find(({ info }) => hashPartOf(info.storePath) === hashPart)?.info,
    registered: {
      byId: () => undefined,
      after(after, limit) {
        const found = [...rows.values()].filter(({ id }) => id > after).slice(0, limit)
        const paths = found.map(({ id, info: { storePath, narHash, narSize, signatures } }) => {
          return { id, storePath, narHash, narSize, isSigned: signatures.length > 0 }
        })
        return { paths, lastId: found.at(-1)?.id ?? after }
      },
      changeMark: () => String(changes),
    },
    closure: (paths) => paths.flatMap((path) => rows.get(path)?.info ?? []),
    async *readNar(path, { start, end } = { start: 0, end: rows.get(path)?.bytes.length ?? 0 }) {
      yield range(path, start, end)
    },
    async readNarInto(path, { start, end }, target, { signal }) {
      await new Promise(setImmediate)
      signal.throwIfAborted()
      target.set(range(path, start, end))
      return { mark: `${changes} ${writes}`, changedMs: 0 }
    },
    openNar(...asked) {
      return openByRanges(this, ...asked)
    },
    close() {},
  }
}
