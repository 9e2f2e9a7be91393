/**
 * Sends an {@link Answer}. On a socket it writes to node's response itself: hono's `stream()` ends a failed body as if it
 * were whole [security 0.6], node-server prints failures to the console, and one chunk read ahead while the socket drains
 * is worth a fifth of the throughput of a file. Without a socket (`app.request()`) it makes a `Response`.
 */
import type { ServerResponse } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { Context } from 'hono'
import type { Log } from '../log.ts'
import type { ReadOptions } from '../source.ts'
import { isStreamed } from './answer.ts'
import type { Answer, StreamedBody } from './answer.ts'
import { exactly, readChunks } from './body.ts'
import type { ChunkReader } from './body.ts'
import { cacheFailure, ClientGoneError, failureKind } from './errors.ts'

export interface HttpEnv {
  Bindings: HttpBindings
  Variables: {
    /** Asked before bytes of a body leave; undefined is yes. Set where what goes out is limited. */
    pace?: (bytes: number) => Promise<void> | undefined
  }
}

/** Node's own request and response; neither in `app.request()`, whatever hono's types say. */
export function nodeSide(c: Context<HttpEnv>): Partial<HttpBindings> {
  const env: HttpBindings | undefined = c.env
  return env ?? {}
}

/** For the one line that tells why a body was cut. */
interface Telling {
  signal: AbortSignal
  pace: HttpEnv['Variables']['pace']
  log: Log
  path: string
}

/** Aborts with a ClientGoneError when the client closes before its answer is out. */
export function requestSignal(c: Context<HttpEnv>): AbortSignal {
  const { outgoing } = nodeSide(c)
  if (outgoing === undefined) return c.req.raw.signal
  const controller = new AbortController()
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) controller.abort(new ClientGoneError('the client closed the connection'))
  })
  return controller.signal
}

/**
 * Resolves when the answer is out, or cut and told in the log.
 *
 * @throws what opening a streamed body throws, and its failure to give a first byte: nothing is sent then
 */
export async function respond(
  c: Context<HttpEnv>,
  answer: Answer,
  options: { signal: AbortSignal; log: Log },
): Promise<Response> {
  const { status, body } = answer
  const headers: Record<string, string> = { ...answer.headers }
  const length = isStreamed(body) ? body.length : Buffer.byteLength(body)
  // 304 describes a body that it does not have; a Content-Length of 0 would say that it is empty.
  if (length !== undefined && status !== 304) headers['Content-Length'] = String(length)
  const { outgoing } = nodeSide(c)

  const pace = c.get('pace')
  const bare = c.req.method === 'HEAD' || status === 304
  if (bare || !isStreamed(body)) {
    const sent = bare || isStreamed(body) ? null : body
    if (outgoing === undefined) return new Response(sent, { status, headers })
    // After the socket took them, or is gone: until then the kernel may still read them from where they are.
    if (answer.sent !== undefined) outgoing.once('close', answer.sent)
    const turn = sent !== null && length !== undefined ? pace?.(length) : undefined
    outgoing.writeHead(status, headers)
    if (turn !== undefined) {
      // Who waits for the bytes then knows that they come, and what our line carries: so it asks for coded ones.
      outgoing.flushHeaders()
      try {
        await turn
      } catch (error) {
        tellCut(error, 0, { ...options, pace, path: c.req.path })
        outgoing.destroy()
        return RESPONSE_ALREADY_SENT
      }
    }
    // All ASCII, as a narinfo is: then head and text are one string, and its bytes need no looking at.
    if (typeof sent === 'string' && sent.length === length) outgoing.end(sent, 'latin1')
    else outgoing.end(sent)
    return RESPONSE_ALREADY_SENT
  }

  const reading = new AbortController()
  const signal = AbortSignal.any([options.signal, reading.signal])
  const told = { ...options, pace, path: c.req.path }
  if (outgoing === undefined) {
    const chunks = await openBody(body, { signal })
    const all = { ...headers, ...body.headers?.() }
    return new Response(streamOf(chunks, reading, told), { status, headers: all })
  }
  const chunks = await openBody(body, { signal, reuse: true })
  outgoing.writeHead(status, { ...headers, ...body.headers?.() })
  await pump(chunks, outgoing, told)
  return RESPONSE_ALREADY_SENT
}

async function openBody(body: StreamedBody, options: ReadOptions): Promise<ChunkReader> {
  options.signal.throwIfAborted()
  const chunks = await body.open(options)
  return readChunks(body.length === undefined ? unguarded(chunks) : exactly(chunks, body.length))
}

async function* unguarded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks
}

/**
 * Writes as the kernel takes it, one chunk read ahead: when the next but one is asked for, nobody reads this one any more
 * (`ReadOptions.reuse`). A failure destroys the socket: the client sees a body cut short.
 */
async function pump(chunks: ChunkReader, outgoing: ServerResponse, told: Telling): Promise<void> {
  let sent = 0
  try {
    let next = chunks.next()
    for (;;) {
      const { done, value } = await next
      if (done === true) break
      const turn = told.pace?.(value.byteLength)
      if (turn !== undefined) await turn
      // To the kernel first: the client has something to do while the next chunk is read.
      const taken = written(outgoing, value)
      next = chunks.next()
      // Looked at in the next turn, if there is one.
      next.catch(() => {})
      await taken
      if (outgoing.destroyed) throw new ClientGoneError('the client closed the connection')
      sent += value.byteLength
    }
    outgoing.end()
  } catch (error) {
    tellCut(error, sent, told)
    outgoing.destroy()
  } finally {
    chunks.close().catch(() => {})
  }
}

/** Resolves when the kernel has the bytes, or the socket is gone. */
function written(outgoing: ServerResponse, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    if (outgoing.destroyed) {
      resolve()
      return
    }
    const done = (): void => {
      outgoing.off('close', done)
      resolve()
    }
    // Of a socket that goes away the callback of a write may never come.
    outgoing.on('close', done)
    outgoing.write(bytes, done)
  })
}

function streamOf(chunks: ChunkReader, reading: AbortController, told: Telling): ReadableStream<Uint8Array> {
  let sent = 0
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next()
          if (done === true) {
            controller.close()
            return
          }
          await told.pace?.(value.byteLength)
          sent += value.byteLength
          controller.enqueue(value)
        } catch (error) {
          tellCut(error, sent, told)
          controller.error(error)
        }
      },
      async cancel() {
        reading.abort(new ClientGoneError('the reader cancelled the body'))
        await chunks.close()
      },
    },
    // Nothing is read before it is asked for.
    { highWaterMark: 0 },
  )
}

function tellCut(error: unknown, sent: number, told: Telling): void {
  // Whatever a source throws because its reader left is the reader's doing.
  const failure = cacheFailure(told.signal.aborted ? 'client-gone' : failureKind(error))
  told.log[failure.level](
    { err: error, path: told.path, sentBytes: sent },
    failure.level === 'debug' ? failure.message : `${failure.message}: response cut after ${sent} bytes`,
  )
}
