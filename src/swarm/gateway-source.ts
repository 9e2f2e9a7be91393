import type { CID } from 'multiformats/cid'
import type { Dispatcher } from 'undici'
import { Pool } from 'undici'
import {
  DECODING_MAX_COUNT,
  GATEWAY_BLOCK_DEADLINE_MS,
  GATEWAY_MAX_CONNECTIONS,
  GATEWAY_MAX_HEADER_BYTES,
  GATEWAY_MIN_BYTES_PER_S,
  SWARM_DIAL_DEADLINE_MS,
} from '../limits.ts'
import type { BlockRef, BlockSource, Cost, SourceId } from '../source.ts'
import { COST, SourceFaultError, SourceLieError, SourceMissError, SourceRestingError } from '../source.ts'
import { retryAfterMs } from '../upstream/retry-after.ts'
import { CodedBlockError, decodeBlock } from './coded-block.ts'
import { createLinkPace } from './link-pace.ts'
import type { LinkPace } from './link-pace.ts'

export interface GatewayConfig {
  /** http or https; may have a path, below which `/ipfs/` is. */
  readonly url: string
  /** `http:<url>` when absent. */
  readonly id?: SourceId
  /** COST.peer when absent. */
  readonly cost?: Cost
}

export interface GatewaySource extends BlockSource {
  /** Cuts what is under way and closes the connections. */
  close(): Promise<void>
}

/**
 * A trustless gateway as a source of blocks (specs.ipfs.tech/http-gateways/trustless-gateway): another narswarm, a Kubo,
 * any. Asks for raw blocks only, in zstd where that is quicker than the link, and follows no redirect.
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
  const { id = `http:${config.url}`, cost = COST.peer } = config
  const own = deps.dispatcher === undefined ? createPool(base.origin) : undefined
  const dispatcher = deps.dispatcher ?? own
  const prefix = base.pathname.replace(/\/+$/, '')
  const { clock = () => performance.now() } = deps
  const pace = createLinkPace({ clock })
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
  /** The peer weighs its coder against what the link carries: https://wicg.github.io/netinfo/ */
  const coding = (): Record<string, string> => {
    if (!pace.isSlow() || decoding >= DECODING_MAX_COUNT) return { 'accept-encoding': 'identity' }
    const bytesPerS = pace.bytesPerS()
    return {
      'accept-encoding': 'zstd',
      ...(bytesPerS === undefined ? {} : { downlink: (bytesPerS / 125_000).toFixed(3) }),
    }
  }
  const decode = async (coded: Uint8Array, maxBytes: number): Promise<Uint8Array> => {
    decoding += 1
    try {
      return await decodeBlock(coded, maxBytes)
    } finally {
      decoding -= 1
    }
  }

  return {
    id,
    cost,
    async fetch(block, { signal }) {
      signal.throwIfAborted()
      if (clock() < restsUntil) throw resting()
      const { cid, maxBytes } = block
      const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
      const answer = createAnswer({ source: id, block, pace, decode, rest, resolve, reject })
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
            headers: { accept: 'application/vnd.ipld.raw', ...coding() },
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

interface Answer {
  readonly handler: Dispatcher.DispatchHandler
  /** Rejects at once, and cuts the request as soon as there is one: it may still wait for a connection. */
  giveUp(reason: Error): void
}

/** One answer on its way into one buffer of the right size. */
function createAnswer(request: {
  readonly source: SourceId
  readonly block: BlockRef
  readonly pace: LinkPace
  readonly decode: (coded: Uint8Array, maxBytes: number) => Promise<Uint8Array>
  readonly rest: (ms: number) => SourceRestingError
  readonly resolve: (bytes: Uint8Array | Promise<Uint8Array>) => void
  readonly reject: (error: Error) => void
}): Answer {
  const { source, block, pace, decode, rest, resolve, reject } = request
  const { cid, maxBytes, into, onBytes, onPlaced } = block
  let controller: Dispatcher.DispatchController | undefined
  let given: Error | undefined
  let coming: Coming | undefined

  const giveUp = (reason: Error): void => {
    given ??= reason
    reject(given)
    controller?.abort(given)
  }

  const lie = (message: string): void => {
    giveUp(new SourceLieError(source, `${cid.toString()}: ${message}`))
  }

  const decoded = async ({ buffer, filled, hasLength }: Coming): Promise<Uint8Array> => {
    try {
      return await decode(buffer.subarray(0, filled), maxBytes)
    } catch (cause) {
      if (!(cause instanceof CodedBlockError)) throw cause
      const message = `${cid.toString()}: ${cause.message}`
      // Without a length a body that was cut looks like one that is over.
      if (cause.truncated && !hasLength) throw new SourceFaultError(source, message, { cause })
      throw new SourceLieError(source, message, { cause })
    }
  }

  return {
    giveUp,
    handler: {
      onRequestStart(started) {
        controller = started
        if (given !== undefined) started.abort(given)
      },
      onResponseStart(_, status, headers) {
        if (status < 200) return
        const restMs = BUSY.has(status) ? retryAfterMs(headers['retry-after'], headers['date']) : 0
        if (restMs > 0) {
          giveUp(rest(restMs))
          return
        }
        const refusal = refuse(source, cid, status, headers)
        if (refusal !== undefined) {
          giveUp(refusal)
          return
        }
        const length = headers['content-length']
        const size = length === undefined ? maxBytes : Number(length)
        // Of coded ones too: nobody needs to make a block larger.
        if (!(size <= maxBytes)) {
          lie(`expected at most ${maxBytes} bytes, got Content-Length ${JSON.stringify(length)}`)
          return
        }
        const buffer = into?.subarray(0, size) ?? Buffer.allocUnsafeSlow(size)
        coming = { buffer, filled: 0, coded: codingOf(headers) === 'zstd', hasLength: length !== undefined }
        pace.began()
      },
      onResponseData(_, chunk) {
        if (coming === undefined || given !== undefined) return
        if (coming.filled + chunk.length > coming.buffer.length) {
          lie(`expected at most ${maxBytes} bytes, got more`)
          return
        }
        coming.buffer.set(chunk, coming.filled)
        coming.filled += chunk.length
        pace.came(chunk.length)
        onBytes?.(chunk.length)
        if (!coming.coded) onPlaced?.(chunk.length)
      },
      onResponseEnd() {
        if (coming === undefined) return
        pace.ended()
        if (given !== undefined) return
        resolve(coming.coded ? decoded(coming) : coming.buffer.subarray(0, coming.filled))
      },
      onResponseError(_, error) {
        if (coming !== undefined) pace.ended()
        reject(given ?? new SourceFaultError(source, `${cid.toString()}: ${error.message}`, { cause: error }))
      },
    },
  }
}

/** A body on its way. */
interface Coming {
  readonly buffer: Uint8Array
  filled: number
  readonly coded: boolean
  readonly hasLength: boolean
}

type Headers = Record<string, string | string[] | undefined>

/** Why this answer cannot bring the block, from its head alone. */
function refuse(source: SourceId, cid: CID, status: number, headers: Headers): Error | undefined {
  const asked = cid.toString()
  // 410 is what gateways say of blocks they will not serve; for us they do not have them.
  if (status === 404 || status === 410) return new SourceMissError(source, `${asked}: HTTP ${status}`)
  if (status >= 300 && status < 400) {
    return new SourceFaultError(source, `${asked}: HTTP ${status}, redirects of a gateway are not followed`)
  }
  if (status !== 200) return new SourceFaultError(source, `${asked}: expected HTTP 200, got ${status}`)
  const coding = codingOf(headers)
  if (coding !== 'identity' && coding !== 'zstd') {
    return new SourceFaultError(
      source,
      `${asked}: expected Content-Encoding zstd or none, got ${quote(coding)}`,
    )
  }
  const type = headers['content-type']
  if (type !== undefined && !BLOCK_TYPE.test(String(type))) {
    return new SourceFaultError(source, `${asked}: expected application/vnd.ipld.raw, got ${quote(type)}`)
  }
  return undefined
}

function codingOf(headers: Headers): string {
  return String(headers['content-encoding'] ?? 'identity').toLowerCase()
}

/** With Retry-After it is not at fault, and says when it has time. */
const BUSY: ReadonlySet<number> = new Set([429, 503])

/** Somebody else at its address answers with 200 and a page, and nobody lied; some gateways do not know the raw type. */
const BLOCK_TYPE = /^application\/(?:vnd\.ipld\.raw|octet-stream)\s*(?:;|$)/i

function quote(header: string | string[]): string {
  return JSON.stringify(header).slice(0, 80)
}
