import { SourceFaultError, SourceLieError, SourceMissError, type SourceId } from '../source.ts'

/** Whatever went wrong, as one of the three that callers know. Not for an abort by the caller. */
export function sourceError(id: SourceId, url: URL, error: unknown): Error {
  if (
    error instanceof SourceFaultError ||
    error instanceof SourceLieError ||
    error instanceof SourceMissError
  ) {
    return error
  }
  return new SourceFaultError(id, `${url.href}: ${messageOf(error)}`, { cause: error })
}

/** undici and net hide the reason below a general "fetch failed" or an AggregateError without a message. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0])
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  return 'code' in error ? String(error.code) : error.name
}
