import type { OperationFailure } from '../http/admin-wire.ts'

/** The command line makes no sense. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** No narswarm answers at the admin socket: none runs, or it is somebody else's. Exit code 4. */
export class NotReachableError extends Error {
  override readonly name = 'NotReachableError'
}

/** What went wrong in the narswarm that was asked, in its own words. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError'
  readonly failure: OperationFailure
  constructor(failure: OperationFailure, message: string) {
    super(message)
    this.failure = failure
  }
}

/** The reason of an abort by the user or the system. Exit code 128 and the signal's number. */
export class SignalError extends Error {
  override readonly name = 'SignalError'
  readonly signalName: 'SIGINT' | 'SIGTERM'
  constructor(signalName: 'SIGINT' | 'SIGTERM') {
    super(`stopped by ${signalName}`)
    this.signalName = signalName
  }
}
