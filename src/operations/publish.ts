/** From what the user named to what is published: which cache or store, which paths, which feed. */
import { pathToFileURL } from 'node:url'
import { isAbsolute } from 'node:path'
import type { Publisher as FeedPublisher } from '../feed/publisher.ts'
import { parseStorePath } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'
import { fromCache, fromStore } from '../publish/candidates.ts'
import type { Candidate } from '../publish/candidates.ts'
import type { Publisher } from '../publish/publish.ts'
import type { CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { Upstream } from '../upstream/upstream.ts'
import { RequestError } from './operations.ts'
import type { PublishEvent, PublishRequest } from './operations.ts'
import { parsePathArgument } from './verify.ts'

export interface PublishDeps {
  publisher: Publisher
  feeds: ReadonlyMap<string, FeedPublisher>
  store: LocalStore | undefined
  openCache(url: URL): Upstream
}

/** @throws RequestError, PublishError */
export async function* publishRequest(
  request: PublishRequest,
  deps: PublishDeps,
  config: { storeDir: string },
  options: CallOptions,
): AsyncGenerator<PublishEvent, void, undefined> {
  const feed = deps.feeds.get(request.feed)
  if (feed === undefined) {
    const known = [...deps.feeds.keys()].join(', ') || 'none yet: narswarm feed create NAME'
    throw new RequestError(`no feed ${JSON.stringify(request.feed)} is published here (${known})`)
  }
  const sizeBefore = feed.size
  const cache = request.from === undefined ? undefined : deps.openCache(cacheUrl(request.from))
  try {
    const candidates =
      cache === undefined
        ? gatherFromStore(request, deps, config)
        : await fromCache(cache, await hashParts(request, cache, config.storeDir), options)
    for await (const item of deps.publisher.publish(candidates, { feed, dryRun: request.dryRun }, options)) {
      yield { kind: 'item', ...item }
    }
  } finally {
    // Only now: candidates are read from it while they are published.
    await cache?.close()
  }
  yield { kind: 'done', feed: feed.name, added: feed.size - sizeBefore, size: feed.size }
}

function gatherFromStore(
  request: PublishRequest,
  deps: PublishDeps,
  config: { storeDir: string },
): Candidate[] {
  if (deps.store === undefined) {
    throw new RequestError('there is no local Nix store here; name a binary cache with --from')
  }
  if (request.paths.length === 0) throw new RequestError('expected store paths to publish, got none')
  try {
    return fromStore(
      deps.store,
      request.paths.map((path) => parseStorePath(path, config.storeDir)),
    )
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new RequestError(error.message, { cause: error })
  }
}

function cacheUrl(text: string): URL {
  if (isAbsolute(text)) return pathToFileURL(text)
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:', 'file:'].includes(url.protocol)) {
    throw new RequestError(
      `expected the URL or the absolute folder of a binary cache, got ${JSON.stringify(text)}`,
    )
  }
  return url
}

async function hashParts(request: PublishRequest, cache: Upstream, storeDir: string): Promise<HashPart[]> {
  if (request.paths.length > 0) return request.paths.map((path) => parsePathArgument(path, storeDir))
  if (cache.hashParts === undefined) {
    throw new RequestError(`expected paths to publish: ${cache.id} cannot list what it has`)
  }
  return Array.fromAsync(cache.hashParts())
}
