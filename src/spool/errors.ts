import type { NarHash } from '../nix/hash.ts'

/** Somebody is writing this NAR: follow that writer, or come back. */
export class SpoolBusyError extends Error {
  override readonly name = 'SpoolBusyError'
  constructor(narHash: NarHash) {
    super(`NAR ${narHash} already has a writer`)
  }
}

/** The spool does not hold the whole NAR (any more). */
export class SpoolMissError extends Error {
  override readonly name = 'SpoolMissError'
  constructor(narHash: NarHash) {
    super(`NAR ${narHash} is not in the spool`)
  }
}

/** The file is not what its row says: gone, short, not a plain file, or not readable. Get the NAR elsewhere. */
export class SpoolCorruptError extends Error {
  override readonly name = 'SpoolCorruptError'
  readonly path: string
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`spool file ${path}: ${reason}`, options)
    this.path = path
  }
}

/** The disk did not take the bytes (full, read-only, failing). The file must be abandoned. */
export class SpoolWriteError extends Error {
  override readonly name = 'SpoolWriteError'
  readonly path: string
  constructor(path: string, cause: unknown) {
    super(`spool file ${path}: ${cause instanceof Error ? cause.message : 'write failed'}`, { cause })
    this.path = path
  }
}
