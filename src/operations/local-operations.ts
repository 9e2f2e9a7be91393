/** The operations, done in this process. */
import { createFeed, openPublisher } from '../feed/publisher.ts'
import type { Publisher as FeedPublisher, PublisherDeps } from '../feed/publisher.ts'
import type { Follower } from '../feed/follower.ts'
import { parseFeedName } from '../feed/feed-name.ts'
import { FeedFormatError, FeedKeyError, PublisherStateError } from '../feed/errors.ts'
import { RequestError } from './operations.ts'
import type { Operations } from './operations.ts'
import { publishRequest } from './publish.ts'
import type { PublishDeps } from './publish.ts'
import { changePeer } from './change-peer.ts'
import type { Explain } from './explain.ts'
import { describePeers } from './peers.ts'
import { describeFollowed, describePublished } from './feeds-report.ts'
import type { FeedsReport } from './feeds-report.ts'
import type { StatusDocument } from './status.ts'
import { verifyPath } from './verify.ts'
import type { Resolver } from '../substitute/resolve.ts'
import type { Transfers } from '../substitute/transfers.ts'
import { checkSpool } from '../spool/check.ts'
import type { SpoolKeeper } from '../spool/keeper.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { Spool } from '../spool/spool.ts'
import type { Log } from '../log.ts'
import type { NeighbourTable } from '../swarm/neighbour-table.ts'
import type { Auditor } from './auditor.ts'

export interface OperationsDeps extends Omit<PublishDeps, 'feeds'> {
  /** Those published here, by name; `createFeed` adds to it. */
  feeds: Map<string, FeedPublisher>
  feedPlace(name: string): { dir: string; keysDir: string; storeDir: string }
  feedDeps: PublisherDeps & { randomBytes: (n: number) => Uint8Array }
  follower: Follower
  resolver: Resolver
  transfers: Transfers
  auditor: Auditor
  explain: Explain
  neighbours: NeighbourTable
  spool: { spool: Spool; index: LeafIndex; keeper: SpoolKeeper; log: Log }
  /** All of the status document but its feeds and audits. */
  describe(): Omit<StatusDocument, 'feeds' | 'audit'>
}

export function createOperations(deps: OperationsDeps, config: { storeDir: string }): Operations {
  const feedsReport = (): FeedsReport => ({
    published: [...deps.feeds.values()].map((feed) => describePublished(feed.status())),
    followed: deps.follower.status().map(describeFollowed),
  })

  return {
    async status() {
      return { ...deps.describe(), audit: deps.auditor.status(), feeds: feedsReport() }
    },

    async feeds() {
      return feedsReport()
    },

    async createFeed(text) {
      try {
        const name = parseFeedName(text)
        const place = { name, ...deps.feedPlace(name) }
        const { rootKey } = await createFeed(place, deps.feedDeps)
        deps.feeds.set(name, await openPublisher(place, deps.feedDeps))
        return { name, rootKey }
      } catch (error) {
        if (
          error instanceof FeedFormatError ||
          error instanceof FeedKeyError ||
          error instanceof PublisherStateError
        ) {
          throw new RequestError(error.message, { cause: error })
        }
        throw error
      }
    },

    publish: (request, options) => publishRequest(request, deps, config, options),
    verify: (path, options) => verifyPath(path, deps, config, options),
    explain: (path, options) => deps.explain(path, options),
    verifySpool: (options) => checkSpool(deps.spool, options),
    verifyFeed: (request, options) => deps.auditor.run(request, options),
    gc: (request, options) => deps.spool.keeper.gc(request, options),
    peers: () => Promise.resolve(describePeers(deps.neighbours)),
    changePeer: async (change) => changePeer(deps.neighbours, change),
  }
}
