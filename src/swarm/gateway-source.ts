import type { Dispatcher } from 'undici'
import { Pool } from 'undici'
import {
  DECODED_ANYHOW_BELOW_BYTES_PER_S,
  DECODING_MAX_COUNT,
  GATEWAY_BLOCK_DEADLINE_MS,
  GATEWAY_MAX_CONNECTIONS,
  GATEWAY_MAX_HEADER_BYTES,
  GATEWAY_MIN_BYTES_PER_S,
  SWARM_DIAL_DEADLINE_MS,
} from '../limits.ts'
import type { BlockRef, BlockSource, CallOptions, Cost, OldBlock, SourceId } from '../source.ts'
import { COST, SourceFaultError, SourceRestingError } from '../source.ts'
import { createSlots } from '../upstream/slots.ts'
import { OldBlockGoneError } from './coded-block.ts'
import { AVAILABLE_DICTIONARY, formatAvailableDictionary, knowsDictionaries } from './dcz.ts'
import { createAnswer } from './gateway-answer.ts'
import type { Decoding } from './gateway-answer.ts'
import { createLinkPace } from './link-pace.ts'

export interface GatewayConfig {
  /** http or https; may have a path, below which `/ipfs/` is. */
  readonly url: string
  /** `http:<url>` when absent. */
  readonly id?: SourceId
  /** COST.peer when absent. */
  readonly cost?: Cost
  /** Whether older blocks may be named to it, until an answer of its own has said (`Vary`) whether it knows differences. */
  readonly knowsDifferences?: () => boolean
  /** No line is between: it counts as quick until it was measured, for a tunnel or a proxy may be there. */
  readonly isOnLoopback?: boolean
}

export interface GatewaySource extends BlockSource {
  /** Cuts what is under way and closes the connections. */
  close(): Promise<void>
}

/**
 * A trustless gateway as a source of blocks (specs.ipfs.tech/http-gateways/trustless-gateway): another narswarm, a Kubo,
 * any. Asks for raw blocks only, coded where that is quicker than the link, and follows no redirect.
 *
 * Through undici's `dispatch`, each chunk copied once into the block's own buffer: 1 MiB bodies, 8 to 16 in flight on
 * loopback, took an eighth less CPU than through node:http or through undici's `request` and its stream.
 *
 * @throws RangeError on a URL that cannot be a gateway's
 */
export function createGatewaySource(
  config: GatewayConfig,
  deps: { dispatcher?: Dispatcher; clock?: () => number } = {},
): GatewaySource {
  const base = parseBase(config.url)
  const { id = `http:${config.url}`, cost = COST.peer, isOnLoopback = false } = config
  const own = deps.dispatcher === undefined ? createPool(base.origin) : undefined
  const dispatcher = deps.dispatcher ?? own
  const prefix = base.pathname.replace(/\/+$/, '')
  const { clock = () => performance.now() } = deps
  const pace = createLinkPace({ clock }, { isOnLoopback })
  const decoders = createSlots(DECODING_MAX_COUNT)
  /** Those that wait for their turn, too. */
  let decoding = 0
  /** It said so: too many ask it just now. */
  let restsUntil = -Infinity
  const rest = (ms: number): SourceRestingError => {
    restsUntil = Math.max(restsUntil, clock() + ms)
    return resting()
  }
  const resting = (): SourceRestingError =>
    new SourceRestingError(
      id,
      `${config.url} asks to be left alone for ${Math.ceil(restsUntil - clock())} ms`,
    )
  let saidToKnowDifferences: boolean | undefined
  /** A link over which nothing but differences came is not measured, and counts as slow. */
  const isCodedWanted = (): boolean =>
    pace.isSlow() &&
    (decoding < DECODING_MAX_COUNT || (pace.bytesPerS() ?? 0) < DECODED_ANYHOW_BELOW_BYTES_PER_S)
  /** On loopback too, until it was measured: behind a tunnel the first blocks are all that moves. */
  const isDifferenceWanted = (): boolean => isCodedWanted() || pace.bytesPerS() === undefined
  /** The peer weighs its coder against what the link carries: https://wicg.github.io/netinfo/ */
  const coding = (old: OldBlock | undefined): Record<string, string> => {
    if (old === undefined && !isCodedWanted()) return { 'accept-encoding': 'identity' }
    const bytesPerS = pace.bytesPerS()
    return {
      ...(old === undefined
        ? { 'accept-encoding': 'zstd' }
        : { 'accept-encoding': 'dcz, zstd', [AVAILABLE_DICTIONARY]: formatAvailableDictionary(old.digest) }),
      ...(bytesPerS === undefined ? {} : { downlink: (bytesPerS / 125_000).toFixed(3) }),
    }
  }
  /** What waits lies in the leaf's own buffer; room for the decoded one is made when its turn comes. */
  const inTurn: Decoding = async (decode, options) => {
    decoding += 1
    try {
      await decoders.take(options)
      try {
        return await decode()
      } finally {
        decoders.free()
      }
    } finally {
      decoding -= 1
    }
  }
  const answered = (vary: string): void => {
    saidToKnowDifferences = knowsDictionaries(vary)
  }
  const knowsDifferences = (): boolean => saidToKnowDifferences ?? config.knowsDifferences?.() ?? false

  const fetch = async (
    block: BlockRef,
    old: OldBlock | undefined,
    { signal }: CallOptions,
  ): Promise<Uint8Array> => {
    signal.throwIfAborted()
    if (clock() < restsUntil) throw resting()
    const { cid, maxBytes } = block
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
    const answer = createAnswer({
      source: id,
      block,
      old,
      signal,
      pace,
      answered,
      inTurn,
      rest,
      resolve,
      reject,
    })
    const onAbort = (): void => answer.giveUp(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    const timer = setTimeout(
      () =>
        answer.giveUp(
          new SourceFaultError(
            id,
            `${cid.toString()} came at less than ${GATEWAY_MIN_BYTES_PER_S} bytes a second`,
          ),
        ),
      GATEWAY_BLOCK_DEADLINE_MS + (maxBytes / GATEWAY_MIN_BYTES_PER_S) * 1000,
    )
    try {
      dispatcher?.dispatch(
        {
          origin: base.origin,
          path: `${prefix}/ipfs/${cid.toString()}?format=raw`,
          method: 'GET',
          headers: { accept: 'application/vnd.ipld.raw', ...coding(old) },
          headersTimeout: GATEWAY_BLOCK_DEADLINE_MS,
          bodyTimeout: GATEWAY_BLOCK_DEADLINE_MS,
        },
        answer.handler,
      )
      return await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
  }

  return {
    id,
    cost,
    async fetch(block, options) {
      const old = knowsDifferences() && isDifferenceWanted() ? await block.old?.(options) : undefined
      try {
        return await fetch(block, old, options)
      } catch (error) {
        if (!(error instanceof OldBlockGoneError)) throw error
        return fetch(block, undefined, options)
      }
    },
    async close() {
      await own?.destroy()
    },
  }
}

function createPool(origin: string): Pool {
  return new Pool(origin, {
    connections: GATEWAY_MAX_CONNECTIONS,
    connectTimeout: SWARM_DIAL_DEADLINE_MS,
    maxHeaderSize: GATEWAY_MAX_HEADER_BYTES,
    // One connection for all streams would share one window, and one loss.
    allowH2: false,
  })
}

function parseBase(text: string): URL {
  const shown = JSON.stringify(text.slice(0, 80))
  if (!URL.canParse(text)) throw new RangeError(`expected the URL of a gateway, got ${shown}`)
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new RangeError(`expected an http or https URL, got ${JSON.stringify(url.protocol)}`)
  }
  if (url.username !== '' || url.password !== '')
    throw new RangeError('expected a gateway URL without credentials')
  if (url.search !== '' || url.hash !== '')
    throw new RangeError(`expected a URL without query and fragment, got ${shown}`)
  return url
}
