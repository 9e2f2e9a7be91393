import { createHash } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { LRUCache } from 'lru-cache'
import { STORE_LAYOUTS_MAX_BYTES, STORE_LAYOUTS_MAX_COUNT } from '../limits.ts'
import { layoutNar } from '../nix/nar-layout.ts'
import type { NarLayout } from '../nix/nar-layout.ts'
import type { CallOptions } from '../source.ts'
import { orChanged } from './errors.ts'
import { walkStorePath } from './walk.ts'

export interface StoreLayout extends NarLayout {
  /** Of its frame: a file renamed beside others leaves no trace in them, but moves their bytes in the NAR. */
  readonly frameMark: number
}

export interface LayoutCache {
  /** The layout of the tree at a physical path; walks it once for all who ask meanwhile. */
  get(path: string, options: CallOptions): Promise<StoreLayout>
  /** For a layout that turned out to be wrong. */
  drop(path: string): void
  /** Ends walks that are under way. */
  close(): void
}

interface Cached {
  readonly layout: StoreLayout
  readonly mark: string
}

/** A file's object, its two numbers and the head of its path's string. */
const BYTES_PER_FILE = 120

export function createLayoutCache(): LayoutCache {
  const cache = new LRUCache<string, Cached>({
    max: STORE_LAYOUTS_MAX_COUNT,
    maxSize: STORE_LAYOUTS_MAX_BYTES,
    sizeCalculation: ({ layout }) => bytesOf(layout),
  })
  const walks = new Map<string, Promise<StoreLayout>>()
  const closing = new AbortController()

  /** Not by the signal of whoever asked first: others wait for the same walk. */
  const walk = async (path: string, mark: string): Promise<StoreLayout> => {
    const layout = withMark(layoutNar(await walkStorePath(path, { signal: closing.signal })))
    cache.set(path, { layout, mark })
    return layout
  }

  return {
    async get(path, { signal }) {
      signal.throwIfAborted()
      const mark = markOf(path)
      const cached = cache.get(path)
      if (cached?.mark === mark) return cached.layout
      const key = `${mark} ${path}`
      const walking = walks.get(key) ?? walk(path, mark).finally(() => walks.delete(key))
      walks.set(key, walking)
      const layout = await walking
      signal.throwIfAborted()
      return layout
    },
    drop(path) {
      cache.delete(path)
    },
    close() {
      closing.abort()
      cache.clear()
    },
  }
}

/** Store paths never change, but one may be collected and made again otherwise: then its inode's times differ. */
function markOf(path: string): string {
  const { dev, ino, ctimeMs } = orChanged(path, () => lstatSync(path))
  return `${dev} ${ino} ${ctimeMs}`
}

function withMark(layout: NarLayout): StoreLayout {
  return { ...layout, frameMark: createHash('sha256').update(layout.frame).digest().readInt32BE() }
}

function bytesOf({ frame, files }: NarLayout): number {
  return files.reduce((sum, { path }) => sum + BYTES_PER_FILE + path.length, frame.length)
}
