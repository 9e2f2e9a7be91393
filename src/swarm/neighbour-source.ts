/** One neighbour as a source: of narinfos and whole NARs, as a binary cache; of blocks, as a trustless gateway. */
import {
  NEIGHBOUR_FIRST_BYTE_MS,
  NEIGHBOUR_IN_VAIN_COUNT,
  NEIGHBOUR_MAKES_UP_BYTES,
  NEIGHBOUR_SILENT_MS,
  NEIGHBOUR_WAIT_MS,
} from '../limits.ts'
import { isLoopbackUrl, isPrivateAddress, literalAddress } from '../config/ip-address.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { COST, SourceFaultError, SourceLieError, SourceRestingError } from '../source.ts'
import type { BlockSource, Cost, NarInfoSource, SourceId, StreamSource } from '../source.ts'
import { DeadlineError, PageError, StatusError } from '../upstream/errors.ts'
import { createHosts } from '../upstream/host.ts'
import { createUpstream } from '../upstream/upstream.ts'
import type { XzThreads } from '../upstream/xz-threads.ts'
import { createGatewaySource } from './gateway-source.ts'
import { sourcesOf } from './neighbour-id.ts'
import type { Neighbour, Neighbours } from './neighbours.ts'

export interface OpenNeighbour {
  /** Whether it has a cache, or any blocks, is for the table to know. */
  readonly narInfos: NarInfoSource
  readonly blocks: BlockSource
  /** Of its whole NARs. */
  readonly streamId: SourceId
  /** It gave wrong bytes: whoever has one of its sources in hand gets no more by it. */
  lied(reason: string): void
  /** Of what it was asked for nothing came in the end. @param reason absent when others were quicker: it may be slow, or gone */
  gaveNothing(reason?: string): void
  /** It did what it was asked for, were it little. */
  answered(): void
  /** The table lets it be asked, again perhaps, and this is what it knows of it by now. @returns whether it was out */
  listed(neighbour: Neighbour): boolean
  /** Cuts what is under way. */
  close(): Promise<void>
}

export interface NeighbourDeps {
  readonly neighbours: Neighbours
  readonly xzThreads: XzThreads
  /** Monotonic, milliseconds. */
  readonly clock: () => number
  /** [0, 1) */
  readonly random: () => number
  readonly log: Log
}

export function openNeighbour(
  neighbour: Neighbour,
  deps: NeighbourDeps,
  { storeDir }: { storeDir: string },
): OpenNeighbour {
  const { neighbours, clock } = deps
  const { id, url } = neighbour
  const cost = costOf(neighbour)
  const { blocks: sourceId, nars: streamId } = sourcesOf(id)
  let { knowsDifferences } = neighbour
  const gateway = createGatewaySource({
    url: url.href.replace(/\/$/, ''),
    id: sourceId,
    cost,
    knowsDifferences: () => knowsDifferences,
    isOnLoopback: isLoopbackUrl(url),
  })
  const cache = createUpstream(
    {
      url,
      storeDir,
      deadlines: { narInfoMs: NEIGHBOUR_SILENT_MS, firstByteMs: NEIGHBOUR_FIRST_BYTE_MS },
      stranger: { id: sourceId, streamId, cost },
    },
    // Who is left alone, and for how long, is the table's to say.
    { ...deps, hosts: createHosts(deps, { tries: 1, failures: Infinity }) },
  )
  /** When anything last came from it: one that is busy with NARs of ours is late, and not gone. */
  let heardAt = -Infinity
  let isLate = false
  let inVain = 0
  /** It failed to give bytes, and answers for little since then do not make up for it. */
  let isInDebt = false
  let givenSince = 0
  let isOut = false

  const heard = (): void => {
    heardAt = clock()
    isLate = false
  }

  const gave = (count: number): void => {
    heard()
    givenSince += count
    if (givenSince < NEIGHBOUR_MAKES_UP_BYTES) return
    inVain = 0
    isInDebt = false
  }

  const answered = (): void => {
    if (!isInDebt) neighbours.answered(id)
  }

  const gaveNothing = (reason?: string): void => {
    givenSince = 0
    inVain = reason === undefined ? inVain + 1 : 0
    if (reason === undefined && inVain < NEIGHBOUR_IN_VAIN_COUNT) return
    inVain = 0
    isInDebt = true
    neighbours.failed(id, reason ?? IN_VAIN)
  }

  const lied = (reason: string): void => {
    isOut = true
    neighbours.lied(id, reason)
  }

  const judge = (error: unknown, begun: number): void => {
    if (error instanceof SourceLieError) {
      const isUnusable = error.cause instanceof PageError || error.cause instanceof RangeError
      if (isUnusable) neighbours.failed(id, error.message)
      else lied(error.message)
    } else if (error instanceof SourceFaultError && !isBusy(error)) {
      if (error.cause instanceof DeadlineError && heardAt > begun) return
      neighbours.failed(id, error.message)
    }
  }

  const listening = (stream: StreamSource): StreamSource => ({
    ...stream,
    async *open(nar, from, options) {
      if (isOut) throw new SourceRestingError(streamId, OUT)
      try {
        for await (const bytes of stream.open(nar, from, options)) {
          if (isOut) throw new SourceRestingError(streamId, OUT)
          gave(bytes.length)
          yield bytes
        }
      } catch (error) {
        if (!isBusy(error)) throw error
        throw new SourceRestingError(streamId, messageOf(error), { cause: error })
      }
    },
  })

  return {
    streamId,
    lied,
    gaveNothing,
    answered,
    listed(listed) {
      const wasOut = isOut
      isOut = false
      knowsDifferences = listed.knowsDifferences
      return wasOut
    },
    narInfos: {
      id: sourceId,
      cost,
      get rests() {
        return cache.rests === true
      },
      get waitMs() {
        return isLate ? 0 : NEIGHBOUR_WAIT_MS
      },
      async lookup(hashPart, options) {
        const begun = clock()
        const timer = setTimeout(() => {
          isLate = heardAt <= begun
        }, NEIGHBOUR_WAIT_MS)
        try {
          const told = await cache.lookup(hashPart, options)
          heard()
          answered()
          return told?.stream === undefined ? told : { ...told, stream: listening(told.stream) }
        } catch (error) {
          if (!options.signal.aborted) judge(error, begun)
          throw error
        } finally {
          clearTimeout(timer)
        }
      },
    },
    blocks: {
      id: sourceId,
      cost,
      async fetch(block, options) {
        if (isOut) throw new SourceRestingError(sourceId, OUT)
        let came = 0
        let cameAt = -Infinity
        const onBytes = (count: number): void => {
          heard()
          came += count
          cameAt = clock()
          block.onBytes?.(count)
        }
        try {
          const bytes = await gateway.fetch({ ...block, onBytes }, options)
          gave(bytes.length)
          return bytes
        } catch (error) {
          // Cut while it was giving it was slower than others, and did not hang in the middle.
          if (options.signal.aborted && clock() - cameAt < NEIGHBOUR_WAIT_MS) gave(came)
          throw error
        }
      },
    },
    async close() {
      await Promise.all([gateway.close(), cache.close()])
    },
  }
}

/** It said when it has time again, and `Hosts` keep to that. */
function isBusy(error: unknown): boolean {
  return (
    error instanceof SourceFaultError && error.cause instanceof StatusError && error.cause.retryAfterMs > 0
  )
}

const IN_VAIN = `nothing came of what it was asked for until others had given it, ${NEIGHBOUR_IN_VAIN_COUNT} times in a row`
const OUT = 'it gave wrong bytes a moment ago'

/** Who was named by URL may be anywhere. */
function costOf({ url, from }: Neighbour): Cost {
  const address = literalAddress(url)
  const isNear =
    address === undefined ? /^localhost$|\.local\.?$/.test(url.hostname) : isPrivateAddress(address)
  return from === 'mdns' || isNear ? COST.neighbour : COST.peer
}
