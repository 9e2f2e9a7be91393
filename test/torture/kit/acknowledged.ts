/** What a narswarm has once told as done, and must therefore still have after any crash. */
import { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { feedFileStem, parseFeedName } from '../../../src/feed/feed-name.ts'
import { createFollower } from '../../../src/feed/follower.ts'
import type { Follower } from '../../../src/feed/follower.ts'
import type { StatusDocument } from '../../../src/operations/status.ts'
import { createFeedPipe } from '../../../src/upstream/feed-pipe.ts'
import { recordingLog } from '../../kit/log.ts'
import { STORE_DIR } from './world.ts'

/** The feed that the mortal one publishes itself. */
export const OWN_FEED = 'mortal.narswarm.invalid/main'

export interface Acknowledged {
  /** Entries of the followed feed that a status told; entries of our own feed that `publish` or a status told. */
  readonly followed: number
  readonly published: number
  /** `publish` has ended, and told this size. */
  publishedTo(size: number): void
  /** @returns what is less than it was */
  look(status: StatusDocument): string[]
  /** Follows the feed's own folder as a stranger would, from the start of the run on. @returns what a stranger would see of a crash */
  followOwn(options: { signal: AbortSignal }): Promise<string[]>
}

/** Beyond every jump of the clocks, so that no head is from the future. */
const AHEAD_MS = 6 * 24 * 3600 * 1000

export function createAcknowledged(stateDir: string, rootKey: string): Acknowledged {
  let followed = 0
  let published = 0
  const folder = join(stateDir, 'feeds', feedFileStem(parseFeedName(OWN_FEED)))
  const follower: Follower = createFollower(
    {
      db: new DatabaseSync(':memory:'),
      clock: () => Date.now() + AHEAD_MS,
      log: recordingLog(),
      storeDir: STORE_DIR,
    },
    {
      feeds: [{ name: OWN_FEED, rootKey, sources: [createFeedPipe(pathToFileURL(folder), OWN_FEED)] }],
    },
  )
  return {
    get followed() {
      return followed
    },
    get published() {
      return published
    },
    publishedTo: (size) => void (published = Math.max(published, size)),
    look({ feeds }) {
      const lost: string[] = []
      const [theirs] = feeds.followed
      const [ours] = feeds.published
      if ((theirs?.size ?? 0) < followed) {
        lost.push(`the followed feed had ${followed} entries, and now ${theirs?.size ?? 0}`)
      }
      if (theirs?.state === 'forked') lost.push('the followed feed counts as forked')
      if ((ours?.size ?? 0) < published) {
        lost.push(`the published feed had ${published} entries, and now ${ours?.size ?? 0}`)
      }
      followed = Math.max(followed, theirs?.size ?? 0)
      published = Math.max(published, ours?.size ?? 0)
      return lost
    },
    async followOwn(options) {
      await follower.sync(options)
      const [status] = follower.status()
      if (status?.state === 'forked') return [`our own feed forked: ${JSON.stringify(status.fork)}`]
      if ((status?.size ?? 0) >= published) return []
      return [
        `our own feed has ${status?.size ?? 0} entries for a stranger, ${published} were told: ${status?.problems.join('; ')}`,
      ]
    },
  }
}
