import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf, nameOf } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { StorePathNotValidError } from '../../src/store/errors.ts'
import { noise, planOf } from '../spool/kit.ts'
import { MIB, pathNamed, signed, signer } from './kit.ts'

export interface OldPath {
  readonly storePath: StorePath
  readonly references: readonly StorePath[]
  bytes: Buffer
  /** Of all its files. */
  mark: string
}

/** Old paths in memory; `onRead` may change, refuse or wait before any of the reads. */
export function oldStore() {
  const paths = new Map<StorePath, OldPath>()
  const store = {
    reads: [] as string[],
    onRead: (_path: OldPath, _start: number): void | Promise<void> => {},
    all: () => paths.keys(),
    add(path: OldPath) {
      paths.set(path.storePath, path)
      return path
    },
    pathInfo(hashPart: string) {
      const path = [...paths.values()].find(({ storePath }) => hashPartOf(storePath) === hashPart)
      if (path === undefined) return undefined
      const { storePath, references, bytes } = path
      const { narHash } = planOf(bytes)
      const rest = { signatures: [], ultimate: false, registeredAt: 0 }
      return { storePath, references, narHash, narSize: bytes.length, ...rest }
    },
    sameName: (name: string, narSize: number, max: number) =>
      [...paths.values()]
        .filter(({ storePath, bytes }) => nameOf(storePath) === name && bytes.length === narSize)
        .map(({ storePath }) => storePath)
        .slice(0, max),
    async readNarInto(
      storePath: StorePath,
      { start, end }: { start: number; end: number },
      target: Uint8Array,
    ) {
      const path = paths.get(storePath)
      if (path === undefined) throw new StorePathNotValidError(storePath)
      store.reads.push(`${nameOf(storePath)} ${start}`)
      await store.onRead(path, start)
      target.set(path.bytes.subarray(start, end))
      return { mark: path.mark, changedMs: 0 }
    },
  }
  return store
}

/** Paths of one name and others hash parts: `twin('a-1', 'old')`. */
export function twin(name: string, which: string): StorePath {
  return `${hashPartOf(pathNamed(`${name} ${which}`.replaceAll(' ', '-')))}-${name}` as StorePath
}

export const SIZE = 5 * MIB + 4_321

/** Noise with store paths in it, some across the borders of leaves. */
function narWith(seed: string, paths: readonly StorePath[]): Buffer {
  const bytes = noise(SIZE, seed)
  paths.forEach((path, index) => {
    for (let at = 1_000 * (index + 1); at + path.length < SIZE; at += 300_007) bytes.write(path, at, 'latin1')
    bytes.write(path, (index + 1) * MIB - 20, 'latin1')
  })
  return bytes
}

export interface Built {
  readonly info: NarInfo
  readonly bytes: Buffer
}

export function built(storePath: StorePath, references: readonly StorePath[], seed = 'nar'): Built {
  const bytes = narWith(seed, [storePath, ...references])
  const { narHash, narSize } = planOf(bytes)
  const unsigned: NarInfo = {
    storePath,
    url: 'nar/x.nar',
    compression: 'none',
    narHash,
    narSize,
    references: [storePath, ...references],
    signatures: [],
  }
  return { info: signed(unsigned, signer), bytes }
}

export function asOld({ info, bytes }: Built): OldPath {
  return {
    storePath: info.storePath,
    references: info.references,
    bytes: Buffer.from(bytes),
    mark: 'as built',
  }
}
