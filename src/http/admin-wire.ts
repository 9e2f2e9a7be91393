/** What goes over the admin socket, between `admin-app.ts` and the command line's client of the same version. */
import { z } from 'zod'
import { AUDIT_SAMPLE_MAX_COUNT } from '../limits.ts'
import { PublishError } from '../publish/errors.ts'
import { RequestError, VerificationError } from '../operations/operations.ts'
import { PEER_ACTIONS } from '../operations/peers.ts'
import { SourceFaultError, SourceLieError } from '../source.ts'
import { NarHashMismatchError, NoSourceError } from '../substitute/errors.ts'

export const ADMIN_ROUTES = {
  status: '/v1/status',
  feeds: '/v1/feeds',
  publish: '/v1/publish',
  verify: '/v1/verify',
  explain: '/v1/explain',
  verifySpool: '/v1/verify-spool',
  verifyFeed: '/v1/verify-feed',
  gc: '/v1/gc',
  peers: '/v1/peers',
} as const

export const createFeedBody = z.strictObject({ name: z.string() })

export const publishBody = z.strictObject({
  feed: z.string(),
  dryRun: z.boolean(),
  from: z.string().optional(),
  paths: z.array(z.string()),
})

export const pathBody = z.strictObject({ path: z.string() })

export const gcBody = z.strictObject({ dryRun: z.boolean(), maxBytes: z.int().min(0).optional() })

export const verifyFeedBody = z.strictObject({
  feed: z.string(),
  sample: z.union([z.int().min(1).max(AUDIT_SAMPLE_MAX_COUNT), z.literal('all')]),
})

export const peerChangeBody = z.strictObject({
  action: z.enum(PEER_ACTIONS),
  peer: z.string(),
  reason: z.string().optional(),
})

/** An operation without anything to say. */
export const emptyBody = z.strictObject({})

/** Every way in which an operation can fail, as far as its caller can act on it. */
const OPERATION_FAILURES = ['request', 'verification', 'unreachable', 'fault'] as const
export type OperationFailure = (typeof OPERATION_FAILURES)[number]

/** The body of an answer that is not 200, and the last line of a stream that failed. */
export const failureBody = z.object({
  kind: z.literal('error'),
  failure: z.enum(OPERATION_FAILURES),
  message: z.string(),
})
export type FailureBody = z.infer<typeof failureBody>

/** @param error thrown by an operation, in this process */
export function operationFailure(error: unknown): OperationFailure {
  if (error instanceof RequestError || error instanceof PublishError) return 'request'
  if (
    error instanceof VerificationError ||
    error instanceof NarHashMismatchError ||
    error instanceof SourceLieError
  ) {
    return 'verification'
  }
  if (error instanceof NoSourceError || error instanceof SourceFaultError) return 'unreachable'
  return 'fault'
}

export function failureStatus(failure: OperationFailure): 400 | 422 | 502 | 500 {
  switch (failure) {
    case 'request':
      return 400
    case 'verification':
      return 422
    case 'unreachable':
      return 502
    case 'fault':
      return 500
    default:
      return failure satisfies never
  }
}
