/**
 * What can go wrong behind a route, and what the client is told. Details go to the log; a client gets a status and a
 * phrase without paths, addresses or causes [security 3 C20].
 */
import { BlockUnavailableError, NarHashMismatchError, NoSourceError } from '../substitute/errors.ts'

/** The client closed its connection, or never took its answer. Nobody's fault, and nothing to answer. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError'
}

/** A source gave more or fewer bytes than the head of the answer had promised: the connection is cut. */
export class BodyLengthError extends Error {
  override readonly name = 'BodyLengthError'
}

/** Why a request to the gateway has no content, in Kubo's terms (`vectors/kubo/gateway.txt`). */
export type GatewayReason =
  /** Not a CID, or not one of a NAR's blocks. */
  | 'bad-cid'
  /** A parameter of the CAR that is unknown or malformed. */
  | 'bad-parameter'
  /** Neither `format` nor an Accept that we know: a trustless gateway does not guess. */
  | 'no-format'
  /** A format that would need another codec, or UnixFS decoding. */
  | 'other-format'
  | 'not-here'
  /** `Cache-Control: only-if-cached`, and the block is not. */
  | 'not-cached'

/** The text is for the client. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly reason: GatewayReason
  constructor(reason: GatewayReason, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

export function gatewayStatus(reason: GatewayReason): 400 | 404 | 406 | 412 {
  switch (reason) {
    case 'bad-cid':
    case 'bad-parameter':
    case 'no-format':
      return 400
    case 'other-format':
      return 406
    case 'not-here':
      return 404
    case 'not-cached':
      return 412
    default:
      return reason satisfies never
  }
}

/** Every way in which a route can fail with an exception. */
export type FailureKind =
  'client-gone' | 'no-source' | 'wrong-bytes' | 'wrong-length' | 'gateway' | 'deadline' | 'fault'

export function failureKind(error: unknown): FailureKind {
  if (error instanceof ClientGoneError) return 'client-gone'
  if (error instanceof NoSourceError || error instanceof BlockUnavailableError) return 'no-source'
  if (error instanceof NarHashMismatchError) return 'wrong-bytes'
  if (error instanceof BodyLengthError) return 'wrong-length'
  if (error instanceof GatewayError) return 'gateway'
  if (error instanceof Error && error.name === 'TimeoutError') return 'deadline'
  return 'fault'
}

export interface Failure {
  /** Of an answer whose head is not out yet. Once it is, the connection is cut instead. */
  readonly status: 404 | 500
  readonly level: 'debug' | 'warn' | 'error'
  readonly message: string
}

/**
 * For the routes that Nix uses, always 404: an answer of 5xx or 429 stops its whole realisation although the next
 * substituter has the path, or makes it wait for minutes [nix-protocol 0.1, 0.2].
 */
export function cacheFailure(kind: FailureKind): Failure {
  switch (kind) {
    case 'client-gone':
      return { status: 404, level: 'debug', message: 'the client went away before its answer' }
    case 'no-source':
      return { status: 404, level: 'warn', message: 'no source gave the NAR' }
    case 'wrong-bytes':
      return { status: 404, level: 'warn', message: 'what the sources gave is not the signed NAR' }
    case 'wrong-length':
      return { status: 404, level: 'warn', message: 'a source gave more or fewer bytes than it had said' }
    case 'deadline':
      return { status: 404, level: 'warn', message: 'no source answered in time' }
    case 'gateway':
    case 'fault':
      return { status: 404, level: 'error', message: 'a request failed for an unexpected reason' }
    default:
      return kind satisfies never
  }
}

/** For `/ipfs/`, `/feed/` and `/relay/`: whoever asks there keeps scores, and must know a fault from a miss. */
export function peerFailure(kind: FailureKind): Failure {
  switch (kind) {
    case 'client-gone':
    case 'no-source':
      return cacheFailure(kind)
    case 'wrong-bytes':
    case 'wrong-length':
    case 'gateway':
    case 'deadline':
    case 'fault':
      return { ...cacheFailure(kind), status: 500 }
    default:
      return kind satisfies never
  }
}
