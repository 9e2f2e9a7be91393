/** `<hash>.ls`, for tools like nix-index: made from the NAR where it is here, passed on from an upstream otherwise. */
import { PASSED_FILE_DEADLINE_MS, PASSED_LISTING_MAX_BYTES } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarLister } from '../substitute/list-nar.ts'
import type { Resolver } from '../substitute/resolve.ts'
import { passedOn } from './answer.ts'
import type { Answer } from './answer.ts'
import { DAY } from './cache-routes.ts'
import type { CacheContent } from './cache-routes.ts'
import type { PassedFiles } from './passed-files.ts'

const CONTENT_TYPE = 'application/json'

/** Only of paths whose narinfo somebody trusted signed. No NAR is fetched for a listing. */
export function createListings(deps: {
  resolver: Pick<Resolver, 'byHashPart'>
  lister: NarLister
  files: PassedFiles
  log: Log
}): NonNullable<CacheContent['listing']> {
  const { resolver, lister, files, log } = deps
  return async (hashPart, options): Promise<Answer | undefined> => {
    const info = await resolver.byHashPart(hashPart, options)
    if (info === undefined) return undefined
    try {
      const body = await lister.list(info, options)
      if (body !== undefined) {
        return { status: 200, headers: { 'Content-Type': CONTENT_TYPE, 'Cache-Control': DAY }, body }
      }
    } catch (error) {
      options.signal.throwIfAborted()
      // What the bytes themselves do not let us say, nobody else is asked to say.
      log.debug({ path: info.storePath, err: error }, `no listing: ${messageOf(error)}`)
      return undefined
    }
    // Signed by nobody, unlike the narinfo: what a person reads, or the index of a tool. Nix takes no byte because of it.
    const rules = {
      maxBytes: PASSED_LISTING_MAX_BYTES,
      deadlineMs: PASSED_FILE_DEADLINE_MS,
      check: checkListing,
    }
    const passed = await files.get(`${hashPart}.ls`, rules, options)
    return passed && passedOn(CONTENT_TYPE, passed)
  }
}

/** @throws SyntaxError, RangeError */
function checkListing(text: string): void {
  const { version, root } = Object(JSON.parse(text)) as Record<string, unknown>
  if (version !== 1 || typeof root !== 'object' || root === null) {
    throw new RangeError('listing: expected version 1 and a root')
  }
}
