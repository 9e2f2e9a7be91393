/**
 * The operations over a unix socket in the state directory, for the command line. The socket's mode (0600) says who may
 * come, so there are no rules against browsers here.
 */
import { Hono } from 'hono'
import type { Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { z } from 'zod'
import { ADMIN_BODY_MAX_BYTES } from '../limits.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import { RequestError } from '../operations/operations.ts'
import type { Operations } from '../operations/operations.ts'
import type { CallOptions } from '../source.ts'
import {
  ADMIN_ROUTES,
  createFeedBody,
  emptyBody,
  failureStatus,
  gcBody,
  operationFailure,
  pathBody,
  peerChangeBody,
  publishBody,
  verifyFeedBody,
} from './admin-wire.ts'
import type { FailureBody } from './admin-wire.ts'
import { notFound } from './answer.ts'
import type { Answer } from './answer.ts'
import { answerNow } from './failures.ts'
import { ClientGoneError } from './errors.ts'
import { nodeSide, requestSignal, respond } from './respond.ts'
import type { HttpEnv } from './respond.ts'

export interface AdminAppDeps {
  readonly operations: Operations
  readonly log: Log
}

export function createAdminApp(deps: AdminAppDeps): Hono<HttpEnv> {
  const { operations, log } = deps
  const app = new Hono<HttpEnv>()
  const send = (c: Context<HttpEnv>, answer: Answer): Promise<Response> =>
    respond(c, answer, { signal: requestSignal(c), log })
  const sendEvents = (
    c: Context<HttpEnv>,
    begin: (options: CallOptions) => AsyncIterable<object>,
  ): Promise<Response> => {
    const open = async (options: CallOptions): Promise<AsyncIterable<Uint8Array>> =>
      eventLines(begin(options), (error) => {
        options.signal.throwIfAborted()
        return describeFailure(error, c.req.path, log)
      })
    return send(c, {
      status: 200,
      headers: { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' },
      body: { length: undefined, open },
    })
  }

  app.onError((error, c) => {
    const gone = nodeSide(c).outgoing?.destroyed === true || c.req.raw.signal.aborted
    const body = describeFailure(gone ? new ClientGoneError(error.message) : error, c.req.path, log)
    return answerNow(c, jsonAnswer(body, failureStatus(body.failure)))
  })
  app.notFound((c) => answerNow(c, notFound()))
  app.use(async (c, next) => {
    // Hashing a large NAR may take longer than the time after which a silent connection counts as dead.
    nodeSide(c).incoming?.socket.setTimeout(0)
    return next()
  })
  app.use(bodyLimit({ maxSize: ADMIN_BODY_MAX_BYTES, onError: bodyTooLarge }))

  app.get(ADMIN_ROUTES.status, async (c) =>
    send(c, jsonAnswer(await operations.status({ signal: requestSignal(c) }))),
  )
  app.get(ADMIN_ROUTES.feeds, async (c) =>
    send(c, jsonAnswer(await operations.feeds({ signal: requestSignal(c) }))),
  )
  app.post(ADMIN_ROUTES.feeds, async (c) => {
    const { name } = await readBody(c, createFeedBody)
    return send(c, jsonAnswer(await operations.createFeed(name, { signal: requestSignal(c) })))
  })
  app.post(ADMIN_ROUTES.verify, async (c) => {
    const { path } = await readBody(c, pathBody)
    return send(c, jsonAnswer(await operations.verify(path, { signal: requestSignal(c) })))
  })
  app.post(ADMIN_ROUTES.explain, async (c) => {
    const { path } = await readBody(c, pathBody)
    return send(c, jsonAnswer(await operations.explain(path, { signal: requestSignal(c) })))
  })
  app.post(ADMIN_ROUTES.verifySpool, async (c) => {
    await readBody(c, emptyBody)
    return send(c, jsonAnswer(await operations.verifySpool({ signal: requestSignal(c) })))
  })
  app.post(ADMIN_ROUTES.gc, async (c) => {
    const { dryRun, maxBytes } = await readBody(c, gcBody)
    const request = maxBytes === undefined ? { dryRun } : { dryRun, maxBytes }
    return send(c, jsonAnswer(await operations.gc(request, { signal: requestSignal(c) })))
  })
  app.get(ADMIN_ROUTES.peers, async (c) =>
    send(c, jsonAnswer(await operations.peers({ signal: requestSignal(c) }))),
  )
  app.post(ADMIN_ROUTES.peers, async (c) => {
    const { reason, ...rest } = await readBody(c, peerChangeBody)
    const change = reason === undefined ? rest : { ...rest, reason }
    return send(c, jsonAnswer(await operations.changePeer(change, { signal: requestSignal(c) })))
  })
  app.post(ADMIN_ROUTES.publish, async (c) => {
    const { from, ...rest } = await readBody(c, publishBody)
    const request = from === undefined ? rest : { ...rest, from }
    return sendEvents(c, (options) => operations.publish(request, options))
  })
  app.post(ADMIN_ROUTES.verifyFeed, async (c) => {
    const request = await readBody(c, verifyFeedBody)
    return sendEvents(c, (options) => operations.verifyFeed(request, options))
  })
  return app
}

/**
 * A failure before the first event is thrown and becomes the status of the answer; one after it, when the status is out,
 * becomes the last line.
 */
async function* eventLines(
  events: AsyncIterable<object>,
  describe: (error: unknown) => FailureBody,
): AsyncGenerator<Uint8Array, void, undefined> {
  let begun = false
  try {
    for await (const event of events) {
      yield line(event)
      begun = true
    }
  } catch (error) {
    if (!begun) throw error
    yield line(describe(error))
  }
}

function line(value: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}

async function readBody<T>(c: Context<HttpEnv>, schema: z.ZodType<T>): Promise<T> {
  let value: unknown
  try {
    value = await c.req.json()
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw new RequestError('expected a body of JSON', { cause })
  }
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new RequestError(z.prettifyError(parsed.error), { cause: parsed.error })
  return parsed.data
}

/** The message goes out whatever failed: whoever may open the socket may read the log too. */
function describeFailure(error: unknown, path: string, log: Log): FailureBody {
  const failure = operationFailure(error)
  const gone = error instanceof ClientGoneError
  if (gone) log.debug({ err: error, path }, 'the client went away before its answer')
  else if (failure === 'fault')
    log.error({ err: error, path }, 'an operation failed for an unexpected reason')
  return { kind: 'error', failure, message: messageOf(error) }
}

function bodyTooLarge(): Response {
  const message = `expected a body of at most ${ADMIN_BODY_MAX_BYTES} bytes, got more`
  return Response.json({ kind: 'error', failure: 'request', message } satisfies FailureBody, { status: 413 })
}

function jsonAnswer(value: object, status = 200): Answer & { readonly body: string } {
  return {
    status,
    headers: { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' },
    body: `${JSON.stringify(value)}\n`,
  }
}
