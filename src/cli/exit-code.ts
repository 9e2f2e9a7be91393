/** What scripts can rely on; `narswarm --help` lists them. */
import { ConfigError } from '../config/errors.ts'
import { operationFailure } from '../http/admin-wire.ts'
import { NotReachableError, RemoteError, SignalError, UsageError } from './errors.ts'

export const EXIT = { done: 0, failed: 1, usage: 2, verification: 3, notReachable: 4 } as const

/** As a shell tells of a process that a signal ended. */
const SIGNAL_EXIT = { SIGINT: 130, SIGTERM: 143 } as const

export function exitCodeOf(error: unknown): number {
  if (error instanceof SignalError) return SIGNAL_EXIT[error.signalName]
  if (error instanceof UsageError || error instanceof ConfigError) return EXIT.usage
  if (error instanceof NotReachableError) return EXIT.notReachable
  const failure = error instanceof RemoteError ? error.failure : operationFailure(error)
  switch (failure) {
    case 'verification':
      return EXIT.verification
    case 'unreachable':
      return EXIT.notReachable
    case 'request':
    case 'fault':
      return EXIT.failed
    default:
      return failure satisfies never
  }
}
