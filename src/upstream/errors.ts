/** Compressed bytes that are no such stream, or hold more than they may. */
export class CompressedDataError extends Error {
  override readonly name = 'CompressedDataError'
  /** The bytes are fine as far as they go, and stop too early: a cut transfer looks like this. */
  readonly truncated: boolean
  constructor(message: string, options: ErrorOptions & { truncated?: boolean } = {}) {
    super(message, options)
    this.truncated = options.truncated ?? false
  }
}

/** Something else than what was asked for, such as a login page: the cause of a SourceLieError, and nobody lied. */
export class PageError extends Error {
  override readonly name = 'PageError'
}

/** This address is no binary cache for our store: nothing is asked of it until its nix-cache-info says otherwise. */
export class UpstreamUnfitError extends Error {
  override readonly name = 'UpstreamUnfitError'
}

/** Compressed in a way that the format allows and our decoder has not: nobody lied. */
export class UnsupportedDataError extends Error {
  override readonly name = 'UnsupportedDataError'
}

/** No answer in time: the cause of a SourceFaultError. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError'
}

/** An answer that is neither the file nor a miss: the cause of a SourceFaultError. */
export class StatusError extends Error {
  override readonly name = 'StatusError'
  /** Asked for by the host, capped; 0 when it did not. */
  readonly retryAfterMs: number
  /** The host's trouble, not that of the one file. */
  readonly isOverload: boolean
  constructor(status: number, restMs: number) {
    super(`status ${status}`)
    this.isOverload = status >= 500 || status === 429 || status === 408
    this.retryAfterMs = status === 429 || status === 503 ? restMs : 0
  }
}
