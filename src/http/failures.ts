import type { Context, ErrorHandler } from 'hono'
import type { Log } from '../log.ts'
import { notFound, refusal } from './answer.ts'
import type { TextAnswer } from './answer.ts'
import { failureKind } from './errors.ts'
import type { Failure, FailureKind } from './errors.ts'
import { nodeSide } from './respond.ts'
import type { HttpEnv } from './respond.ts'

/** One line in the log with the cause; to the client a status and a phrase. */
export function failureHandler(
  failureOf: (kind: FailureKind, path: string) => Failure,
  log: Log,
): ErrorHandler<HttpEnv> {
  return (error, c) => {
    const gone = nodeSide(c).outgoing?.destroyed === true || c.req.raw.signal.aborted
    const failure = failureOf(gone ? 'client-gone' : failureKind(error), c.req.path)
    log[failure.level]({ err: error, path: c.req.path }, `${failure.message}: answered ${failure.status}`)
    return answerNow(c, failure.status === 404 ? notFound() : refusal(failure.status, 'internal error'))
  }
}

/** A short answer as a `Response`, where hono wants one. */
export function answerNow(c: Context<HttpEnv>, answer: TextAnswer): Response {
  const { status, headers, body } = answer
  return new Response(c.req.method === 'HEAD' ? null : body, { status, headers })
}
