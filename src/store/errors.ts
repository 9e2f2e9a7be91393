import { quoteBytes } from '../nix/nar-encode.ts'
import type { StorePath } from '../nix/store-path.ts'

/** There is no local store that could be read: no database, no permission, or not one of Nix. Go on without it. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError'
}

/** The store does not have the path: never had it, or it has been collected. Ask another source. */
export class StorePathNotValidError extends Error {
  override readonly name = 'StorePathNotValidError'
  readonly storePath: StorePath
  constructor(storePath: StorePath, options?: ErrorOptions) {
    super(`${storePath} is not valid in the local store`, options)
    this.storePath = storePath
  }
}

/**
 * What is on disk is not what the database or an earlier look said: collected, repaired or damaged under us. Bytes given
 * before are no prefix of the right NAR; ask another source.
 */
export class StorePathChangedError extends Error {
  override readonly name = 'StorePathChangedError'
}

/** What the system says when the thing at a path is no longer the thing that was there. */
const CHANGED_CODES = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR', 'EINVAL', 'ENXIO', 'ESPIPE'])

/** Runs one file system call on a path below a store path. @throws StorePathChangedError when what it found is gone */
export function orChanged<T>(path: string | Buffer, call: () => T): T {
  try {
    return call()
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || !CHANGED_CODES.has(String(error.code))) throw error
    throw new StorePathChangedError(
      `${quoteBytes(Buffer.from(path))} is not what it was: ${String(error.code)}`,
      {
        cause: error,
      },
    )
  }
}
