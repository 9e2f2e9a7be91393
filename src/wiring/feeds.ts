/** The feeds of this narswarm: those it follows, and those it publishes. */
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { createPublishedFiles } from '../feed/feed-files.ts'
import type { FeedFiles } from '../feed/feed-files.ts'
import { feedFileStem, feedNameOfStem, parseFeedName } from '../feed/feed-name.ts'
import type { FeedName } from '../feed/feed-name.ts'
import { createFollower } from '../feed/follower.ts'
import type { Follower } from '../feed/follower.ts'
import { openPublisher } from '../feed/publisher.ts'
import type { Publisher } from '../feed/publisher.ts'
import type { Log } from '../log.ts'
import type { OperationsDeps } from '../operations/local-operations.ts'
import { createFeedPipe } from '../upstream/feed-pipe.ts'
import type { NodeState } from './state.ts'

export interface NodeFeeds extends Pick<OperationsDeps, 'feedPlace' | 'feedDeps'> {
  readonly follower: Follower
  readonly published: Map<FeedName, Publisher>
  /** Of all of them, for peers. */
  readonly files: Pick<FeedFiles, 'read'>
  close(): Promise<void>
}

export async function openFeeds(
  config: Config,
  { feedDb, keysDir }: Pick<NodeState, 'feedDb' | 'keysDir'>,
  { log, clock }: { log: Log; clock: () => number },
): Promise<NodeFeeds> {
  const { stateDir, storeDir } = config
  const pipes = config.feeds.flatMap(({ name, sources }) =>
    sources.map((url) => ({ name, pipe: createFeedPipe(url, name) })),
  )
  const follower = createFollower(
    { db: feedDb, clock, log, storeDir },
    {
      feeds: config.feeds.map(({ name, rootKey }) => ({
        name,
        rootKey,
        sources: pipes.filter((one) => one.name === name).map(({ pipe }) => pipe),
      })),
    },
  )
  const feedPlace = (name: string): { dir: string; keysDir: string; storeDir: string } => ({
    dir: join(stateDir, 'feeds', feedFileStem(parseFeedName(name))),
    keysDir,
    storeDir,
  })
  const feedDeps = { clock, log, randomBytes }
  const published = new Map<FeedName, Publisher>()
  for (const name of await publishedNames(join(stateDir, 'feeds'))) {
    published.set(name, await openPublisher({ name, ...feedPlace(name) }, feedDeps))
  }
  // Looked up anew each time: feeds are created while we serve.
  const folders = (): Map<FeedName, string> =>
    new Map([...published.keys()].map((name) => [name, feedPlace(name).dir]))
  return {
    follower,
    published,
    feedPlace,
    feedDeps,
    files: {
      read: async (name, path) =>
        (await createPublishedFiles(folders()).read(name, path)) ?? follower.files.read(name, path),
    },
    async close() {
      await Promise.all(pipes.map(({ pipe }) => pipe.close()))
    },
  }
}

async function publishedNames(dir: string): Promise<FeedName[]> {
  try {
    return (await readdir(dir)).map(feedNameOfStem)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
