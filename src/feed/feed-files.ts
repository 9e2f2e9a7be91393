import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FeedName } from './feed-name.ts'
import { formatFeedPath, parseFeedPath } from './feed-path.ts'

/** The files of the feeds that this machine publishes or follows, for whoever may ask for them. */
export interface FeedFiles {
  /** `undefined` for a feed or file that is not there, and for every path that is none of a feed. */
  read(name: string, path: string): Promise<Uint8Array | undefined>
}

/** Feeds that are published from a folder each. No path is ever made of text that was asked for. */
export function createPublishedFiles(folders: ReadonlyMap<FeedName, string>): FeedFiles {
  return {
    async read(name, path) {
      const folder = folders.get(name as FeedName)
      const parsed = parseFeedPath(path)
      if (folder === undefined || parsed === undefined) return undefined
      return readFileIfAny(join(folder, formatFeedPath(parsed)))
    },
  }
}

export async function readFileIfAny(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}
