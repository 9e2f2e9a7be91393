/** What a trustless gateway says to a request for one block: refused by its head, or taken, decoded and told of as it comes. */
import type { CID } from 'multiformats/cid'
import type { Dispatcher } from 'undici'
import { LINK_BODY_BYTES } from '../limits.ts'
import type { BlockRef, CallOptions, OldBlock, SourceId } from '../source.ts'
import { SourceFaultError, SourceLieError, SourceMissError } from '../source.ts'
import type { SourceRestingError } from '../source.ts'
import { retryAfterMs } from '../upstream/retry-after.ts'
import { CodedBlockError, decodeBlock, decodeDifference } from './coded-block.ts'
import type { LinkPace } from './link-pace.ts'

/** Decodes when there is a turn. @throws the signal's reason when it aborts first */
export type Decoding = (decode: () => Promise<Uint8Array>, options: CallOptions) => Promise<Uint8Array>

export interface Answer {
  readonly handler: Dispatcher.DispatchHandler
  /** Rejects at once, and cuts the request as soon as there is one: it may still wait for a connection. */
  giveUp(reason: Error): void
}

/** One answer on its way into one buffer of the right size. */
export function createAnswer(request: {
  readonly source: SourceId
  readonly block: BlockRef
  /** The one that was named in the request. */
  readonly old: OldBlock | undefined
  readonly signal: AbortSignal
  readonly pace: LinkPace
  /** With what the answer may depend on. */
  readonly answered: (vary: string) => void
  readonly inTurn: Decoding
  readonly rest: (ms: number) => SourceRestingError
  readonly resolve: (bytes: Uint8Array | Promise<Uint8Array>) => void
  readonly reject: (error: Error) => void
}): Answer {
  const { source, block, old, signal, pace, answered, inTurn, rest, resolve, reject } = request
  const { cid, maxBytes, into, onBytes, onPlaced, onDifference } = block
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

  const decode = async (coded: Uint8Array, coding: string): Promise<Uint8Array> => {
    if (coding !== 'dcz' || old === undefined) return decodeBlock(coded, maxBytes)
    const bytes = await decodeDifference(coded, maxBytes, old, { signal })
    onDifference?.()
    return bytes
  }

  const decoded = async ({ buffer, filled, coding, hasLength }: Coming): Promise<Uint8Array> => {
    try {
      return await inTurn(() => decode(buffer.subarray(0, filled), coding), { signal })
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
        const codings = old === undefined ? ['zstd'] : ['zstd', 'dcz']
        const refusal = refuse(source, cid, status, headers, codings)
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
        answered(String(headers['vary'] ?? ''))
        const buffer = into?.subarray(0, size) ?? Buffer.allocUnsafeSlow(size)
        const isMeasured = size >= LINK_BODY_BYTES
        coming = { buffer, filled: 0, coding: codingOf(headers), hasLength: length !== undefined, isMeasured }
        if (isMeasured) pace.began()
      },
      onResponseData(_, chunk) {
        if (coming === undefined || given !== undefined) return
        if (coming.filled + chunk.length > coming.buffer.length) {
          lie(`expected at most ${maxBytes} bytes, got more`)
          return
        }
        coming.buffer.set(chunk, coming.filled)
        coming.filled += chunk.length
        if (coming.isMeasured) pace.came(chunk.length)
        onBytes?.(chunk.length)
        if (coming.coding === 'identity') onPlaced?.(chunk.length)
      },
      onResponseEnd() {
        if (coming === undefined) return
        if (coming.isMeasured) pace.ended()
        if (given !== undefined) return
        resolve(coming.coding === 'identity' ? coming.buffer.subarray(0, coming.filled) : decoded(coming))
      },
      onResponseError(_, error) {
        if (coming?.isMeasured === true) pace.ended()
        reject(given ?? new SourceFaultError(source, `${cid.toString()}: ${error.message}`, { cause: error }))
      },
    },
  }
}

/** A body on its way. */
interface Coming {
  readonly buffer: Uint8Array
  filled: number
  readonly coding: string
  readonly hasLength: boolean
  /** Whether it tells what the link carries. */
  readonly isMeasured: boolean
}

type Headers = Record<string, string | string[] | undefined>

/** Why this answer cannot bring the block, from its head alone. */
function refuse(
  source: SourceId,
  cid: CID,
  status: number,
  headers: Headers,
  codings: readonly string[],
): Error | undefined {
  const asked = cid.toString()
  // 410 is what gateways say of blocks they will not serve; for us they do not have them.
  if (status === 404 || status === 410) return new SourceMissError(source, `${asked}: HTTP ${status}`)
  if (status >= 300 && status < 400) {
    return new SourceFaultError(source, `${asked}: HTTP ${status}, redirects of a gateway are not followed`)
  }
  if (status !== 200) return new SourceFaultError(source, `${asked}: expected HTTP 200, got ${status}`)
  const coding = codingOf(headers)
  if (coding !== 'identity' && !codings.includes(coding)) {
    return new SourceFaultError(
      source,
      `${asked}: expected Content-Encoding ${codings.join(', ')} or none, got ${quote(coding)}`,
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
