/** The operations of the narswarm that runs here, asked for over its admin socket. */
import { Agent, request } from 'undici'
import type { Dispatcher } from 'undici'
import { ADMIN_ROUTES, failureBody } from '../http/admin-wire.ts'
import { ADMIN_ANSWER_MAX_BYTES, ADMIN_LINE_MAX_BYTES } from '../limits.ts'
import { quote } from '../nix/quote.ts'
import { RequestError, VerificationError } from '../operations/operations.ts'
import type { AuditEvent, Operations, PublishEvent } from '../operations/operations.ts'
import type { CallOptions } from '../source.ts'
import { NotReachableError, RemoteError } from './errors.ts'

interface Call {
  readonly path: string
  /** A POST when there is one. */
  readonly body?: object
}

/**
 * Answers may take as long as their work: the caller's signal is the only deadline. What the other side said went wrong is
 * thrown as it was there (RequestError, VerificationError), all else as RemoteError.
 *
 * @throws from every call: NotReachableError
 */
export function createAdminClient(socketPath: string): Operations {
  const ask = async <T>(call: Call, options: CallOptions): Promise<T> => {
    const body = await send(socketPath, call, options)
    return (await readJson(socketPath, body, options)) as T
  }

  return {
    status: (options) => ask({ path: ADMIN_ROUTES.status }, options),
    feeds: (options) => ask({ path: ADMIN_ROUTES.feeds }, options),
    createFeed: (name, options) => ask({ path: ADMIN_ROUTES.feeds, body: { name } }, options),
    verify: (path, options) => ask({ path: ADMIN_ROUTES.verify, body: { path } }, options),
    explain: (path, options) => ask({ path: ADMIN_ROUTES.explain, body: { path } }, options),
    verifySpool: (options) => ask({ path: ADMIN_ROUTES.verifySpool, body: {} }, options),
    peers: (options) => ask({ path: ADMIN_ROUTES.peers }, options),
    changePeer: (body, options) => ask({ path: ADMIN_ROUTES.peers, body }, options),
    gc: (gcRequest, options) => ask({ path: ADMIN_ROUTES.gc, body: gcRequest }, options),

    publish: (body, options) =>
      askEvents<PublishEvent>(socketPath, { path: ADMIN_ROUTES.publish, body }, options),
    verifyFeed: (body, options) =>
      askEvents<AuditEvent>(socketPath, { path: ADMIN_ROUTES.verifyFeed, body }, options),
  }
}

interface StreamedEvent {
  readonly kind: 'item' | 'done'
}

/** Items, and `done` as the last. */
async function* askEvents<E extends StreamedEvent>(
  socketPath: string,
  call: Call,
  options: CallOptions,
): AsyncGenerator<E> {
  const body = await send(socketPath, call, options)
  let done = false
  for await (const line of readLines(socketPath, body, options)) {
    const event = parseLine(socketPath, line) as E
    done = event.kind === 'done'
    yield event
  }
  if (!done) throw lost(socketPath, new Error('the answer ended before its last line'))
}

type Body = Dispatcher.ResponseData['body']

/** @returns the body of an answer of 200 */
async function send(socketPath: string, call: Call, options: CallOptions): Promise<Body> {
  const dispatcher = new Agent({ connect: { socketPath }, headersTimeout: 0, bodyTimeout: 0 })
  let answer: Dispatcher.ResponseData
  try {
    answer = await request(`http://narswarm${call.path}`, {
      dispatcher,
      signal: options.signal,
      // A socket kept alive would keep this process alive.
      reset: true,
      ...(call.body === undefined
        ? {}
        : {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(call.body),
          }),
    })
  } catch (error) {
    options.signal.throwIfAborted()
    throw notReachable(socketPath, error)
  }
  if (answer.statusCode === 200) return answer.body
  throw asThrownThere(await readJson(socketPath, answer.body, options), answer.statusCode)
}

/** @param error from connecting, or from the socket before the head of an answer */
export function notReachable(socketPath: string, error: unknown): NotReachableError {
  const cause = error instanceof Error ? error : new Error(String(error))
  switch ((cause as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new NotReachableError(`no narswarm runs at ${socketPath}; start it: narswarm serve`, { cause })
    case 'EACCES':
    case 'EPERM':
      return new NotReachableError(
        `${socketPath} belongs to another user: run this as the user that narswarm runs as`,
        { cause },
      )
    default:
      return lost(socketPath, cause)
  }
}

function lost(socketPath: string, cause: Error): NotReachableError {
  return new NotReachableError(`the narswarm at ${socketPath} broke off: ${cause.message}`, { cause })
}

function asThrownThere(body: unknown, status: number): Error {
  const told = failureBody.safeParse(body)
  if (!told.success) return new RemoteError('fault', `the running narswarm answered ${status}`)
  const { failure, message } = told.data
  switch (failure) {
    case 'request':
      return new RequestError(message)
    case 'verification':
      return new VerificationError(message)
    case 'unreachable':
    case 'fault':
      return new RemoteError(failure, message)
    default:
      return failure satisfies never
  }
}

async function readJson(socketPath: string, body: Body, options: CallOptions): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of readBody(socketPath, body, options)) {
    size += chunk.byteLength
    if (size > ADMIN_ANSWER_MAX_BYTES) {
      throw new RemoteError(
        'fault',
        `expected an answer of at most ${ADMIN_ANSWER_MAX_BYTES} bytes, got more`,
      )
    }
    chunks.push(chunk)
  }
  return parseJson(socketPath, Buffer.concat(chunks).toString('utf8'))
}

async function* readLines(socketPath: string, body: Body, options: CallOptions): AsyncGenerator<string> {
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of readBody(socketPath, body, options)) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > ADMIN_LINE_MAX_BYTES) {
      throw new RemoteError(
        'fault',
        `expected lines of at most ${ADMIN_LINE_MAX_BYTES} bytes, got a longer one`,
      )
    }
    yield* lines
  }
  // A line without its end was cut.
  if (rest !== '') throw lost(socketPath, new Error('the answer ended in the middle of a line'))
}

async function* readBody(socketPath: string, body: Body, options: CallOptions): AsyncGenerator<Uint8Array> {
  try {
    yield* body as AsyncIterable<Uint8Array>
  } catch (error) {
    options.signal.throwIfAborted()
    throw lost(socketPath, error instanceof Error ? error : new Error(String(error)))
  }
}

function parseLine(socketPath: string, line: string): StreamedEvent {
  const value = parseJson(socketPath, line) as StreamedEvent | { readonly kind: 'error' } | null
  switch (value?.kind) {
    case 'item':
    case 'done':
      return value
    case 'error':
      throw asThrownThere(value, 200)
    default:
      throw new RemoteError('fault', `${socketPath}: expected an event, got ${quote(line)}`)
  }
}

function parseJson(socketPath: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new RemoteError('fault', `${socketPath}: expected JSON, got ${quote(text)}`)
  }
}
