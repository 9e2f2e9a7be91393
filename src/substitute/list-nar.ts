/** The listing of a path, out of the proven bytes of its NAR; nothing is fetched for it. */
import { LISTING_DEADLINE_MS } from '../limits.ts'
import { createListing } from '../nix/listing.ts'
import { createNarReader } from '../nix/nar-reader.ts'
import type { CallOptions } from '../source.ts'
import { abortable } from '../upstream/abortable.ts'
import { BlockUnavailableError } from './errors.ts'
import type { VerifiedNarInfo } from './policy.ts'
import type { Transfers } from './transfers.ts'

export interface NarLister {
  /**
   * Undefined when the NAR is not here, or not any more.
   *
   * @throws ListingError when no JSON can say what is in it, NarFormatError when no newer Nix would unpack it
   */
  list(info: VerifiedNarInfo, options: CallOptions): Promise<string | undefined>
}

/** One NAR at a time: each costs a disk and a hash, and tens of megabytes in the worst case. */
export function createNarLister(transfers: Pick<Transfers, 'here'>): NarLister {
  let last: Promise<unknown> = Promise.resolve()

  async function make(info: VerifiedNarInfo, options: CallOptions): Promise<string | undefined> {
    options.signal.throwIfAborted()
    // Of each piece the reader keeps nothing but names, in copies.
    const bytes = await transfers.here(info, { ...options, reuse: true })
    if (bytes === undefined) return undefined
    const listing = createListing()
    const reader = createNarReader({ narSize: info.narSize, onEntry: (entry) => listing.add(entry) })
    try {
      for await (const chunk of bytes) reader.push(chunk)
    } catch (error) {
      if (error instanceof BlockUnavailableError) return undefined
      throw error
    }
    reader.end()
    return listing.finish()
  }

  return {
    async list(info, options) {
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(LISTING_DEADLINE_MS)])
      const turn = last.then(() => make(info, { signal }))
      last = turn.catch(() => {})
      return abortable(turn, signal)
    },
  }
}
