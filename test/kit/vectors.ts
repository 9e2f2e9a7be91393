import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const VECTORS = fileURLToPath(new URL('../../../shared/vectors/', import.meta.url))

/** `shared/vectors/` beside the checkout, with a trailing slash; undefined where it is absent. */
export function vectorsDir(): string | undefined {
  return existsSync(VECTORS) ? VECTORS : undefined
}

/** For a test's `skip` option: a reason where the vectors are absent, false where they are there. */
export function skipWithoutVectors(): string | false {
  return vectorsDir() === undefined ? `no shared/vectors beside the checkout (${VECTORS})` : false
}
