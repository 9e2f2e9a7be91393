/** Every way to the NAR was tried, or none is left in time. A 404 for Nix, which then takes its next substituter. */
export class NoSourceError extends Error {
  override readonly name = 'NoSourceError'
}

/**
 * All bytes came and they are not the signed NAR. With a DAG whose every leaf was right, whoever told the root is to
 * blame, never the peers; without one, the streams the bytes came from.
 */
export class NarHashMismatchError extends Error {
  override readonly name = 'NarHashMismatchError'
}

/** What is in hand of the NAR does not have the leaves of this root. The NarHash will tell which of the two is wrong. */
export class RootMisfitError extends Error {
  override readonly name = 'RootMisfitError'
}

/** Nobody is left to ask for this block; a stream may still have its bytes. */
export class BlockUnavailableError extends Error {
  override readonly name = 'BlockUnavailableError'
}

/** The way made no progress in its time while there were others. Nobody's fault is proved. */
export class WayStalledError extends Error {
  override readonly name = 'WayStalledError'
}
