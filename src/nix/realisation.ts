/**
 * What a derivation's output was built as: the `.doi` files of caches with content-addressed derivations. Only their
 * shape is looked at: each carries signatures of its own, which Nix checks before it registers one
 * (libstore/local-store.cc, registerDrvOutput). But one it cannot parse ends its whole realisation, as a narinfo does.
 */
import { parseSignature } from './signature.ts'
import { parseStorePathBaseName } from './store-path.ts'

/**
 * `realisations/<id>.doi`, Nix 2.4 to 2.34; `id` is `sha256:<hex>!<output>`.
 * @throws RangeError, SyntaxError
 */
export function checkRealisation(text: string, id: string): void {
  const { id: told, outPath, signatures = [], dependentRealisations = {} } = objectOf(JSON.parse(text))
  if (told !== id) throw new RangeError('realisation: it is of another output')
  parseStorePathBaseName(stringOf(outPath))
  for (const signature of arrayOf(signatures)) parseSignature(stringOf(signature))
  for (const path of Object.values(objectOf(dependentRealisations))) parseStorePathBaseName(stringOf(path))
}

/**
 * `build-trace-v2/<drv>/<output>.doi`, Nix 2.35 and later: the name says of which output it is.
 * @throws RangeError, SyntaxError
 */
export function checkBuildTrace(text: string): void {
  const { outPath, signatures = [] } = objectOf(JSON.parse(text))
  parseStorePathBaseName(stringOf(outPath))
  for (const signature of arrayOf(signatures)) {
    const { keyName, sig } = objectOf(signature)
    parseSignature(`${stringOf(keyName)}:${stringOf(sig)}`)
  }
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new RangeError('realisation: expected an object')
}

function arrayOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value
  throw new RangeError('realisation: expected a list of signatures')
}

function stringOf(value: unknown): string {
  if (typeof value === 'string') return value
  throw new RangeError('realisation: expected a string')
}
