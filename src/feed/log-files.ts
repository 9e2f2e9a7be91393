/**
 * A publisher's log as files: entry bundles and hash tiles grow here, the checkpoint follows when they are on disk. What
 * is held in memory is one unfinished bundle and one unfinished tile a level.
 */
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseBundle, formatBundle } from './bundle.ts'
import type { WriteFile } from './durable-file.ts'
import { PublisherStateError } from './errors.ts'
import { readFileIfAny } from './feed-files.ts'
import { formatFeedPath, type FeedPath } from './feed-path.ts'
import { createCompactRange, leafHash, TILE_WIDTH, type CompactRange } from './merkle.ts'

export interface LogFiles {
  readonly range: CompactRange
  /** Adds one entry, and writes the bundle and tiles that it fills. */
  append(entry: Uint8Array): Promise<Uint8Array>
  /** Writes what is unfinished: afterwards every file that a checkpoint of this size needs is on disk. */
  flush(): Promise<void>
  /** Removes the partial files of tiles that have become full (allowed by tlog-tiles once a full one is there). */
  sweep(): Promise<void>
}

export interface LoadOptions {
  dir: string
  epoch: number
  /** Entries to read, as the checkpoint says. */
  size: number
  writeFile: WriteFile
  onEntry(entry: Uint8Array, leaf: Uint8Array): void
}

/**
 * Reads a log's bundles up to `size`.
 *
 * @throws PublisherStateError when one is missing
 * @throws FeedFormatError when one is malformed
 */
export async function loadLogFiles(options: LoadOptions): Promise<LogFiles> {
  const { dir, epoch, size, writeFile } = options
  /** Of each level's unfinished tile. */
  const levels: Uint8Array[][] = []
  let entries: Uint8Array[] = []
  const due: { path: FeedPath; hashes: Uint8Array[] }[] = []
  const filled: FeedPath[] = []

  const pathOf = (path: FeedPath) => join(dir, formatFeedPath(path))

  function pushHash(level: number, n: number, hash: Uint8Array): void {
    const hashes = (levels[level] ??= [])
    hashes.push(hash)
    if (hashes.length < TILE_WIDTH) return
    const path: FeedPath = { kind: 'tile', epoch, level, n: Math.floor(n / TILE_WIDTH), width: TILE_WIDTH }
    due.push({ path, hashes })
    levels[level] = []
  }

  // A full tile's root is a hash of the level above.
  const range = createCompactRange(undefined, (level, n, root) => pushHash(level + 1, n, root))

  function addLeaf(entry: Uint8Array): Uint8Array {
    const leaf = leafHash(entry)
    pushHash(0, range.size, leaf)
    range.append(leaf)
    entries.push(entry)
    return leaf
  }

  async function writeFull(): Promise<void> {
    const full: FeedPath = { kind: 'entries', epoch, n: range.size / TILE_WIDTH - 1, width: TILE_WIDTH }
    await writeFile(pathOf(full), formatBundle(entries))
    filled.push(full)
    entries = []
    for (const tile of due.splice(0)) {
      await writeFile(pathOf(tile.path), Buffer.concat(tile.hashes))
      filled.push(tile.path)
    }
  }

  for (let n = 0; range.size < size; n++) {
    const width = Math.min(TILE_WIDTH, size - range.size)
    for (const entry of await readBundle({ kind: 'entries', epoch, n, width })) {
      options.onEntry(entry, addLeaf(entry))
    }
    if (width === TILE_WIDTH) entries = []
    due.length = 0
  }

  async function readBundle(path: FeedPath & { kind: 'entries' }): Promise<Uint8Array[]> {
    const bytes = await readFileIfAny(pathOf(path))
    if (bytes === undefined) {
      throw new PublisherStateError(
        `${dir}: the checkpoint has ${size} entries, and ${formatFeedPath(path)} is missing`,
      )
    }
    return parseBundle(bytes, path.width)
  }

  return {
    range,
    async append(entry) {
      const leaf = addLeaf(entry)
      if (range.size % TILE_WIDTH === 0) await writeFull()
      return leaf
    },
    async flush() {
      const n = Math.floor(range.size / TILE_WIDTH)
      if (entries.length > 0) {
        const partial: FeedPath = { kind: 'entries', epoch, n, width: entries.length }
        await writeFile(pathOf(partial), formatBundle(entries))
      }
      for (const [level, hashes] of levels.entries()) {
        if (hashes.length === 0) continue
        const index = Math.floor(range.size / TILE_WIDTH ** (level + 1))
        const partial: FeedPath = { kind: 'tile', epoch, level, n: index, width: hashes.length }
        await writeFile(pathOf(partial), Buffer.concat(hashes))
      }
    },
    async sweep() {
      for (const path of filled.splice(0)) {
        await rm(dirname(pathOf({ ...path, width: 1 } as FeedPath)), { recursive: true, force: true })
      }
    },
  }
}
