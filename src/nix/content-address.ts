import { decodeDigest } from './hash.ts'
import { quote } from './quote.ts'

const CONTENT_ADDRESS = /^(?:text|fixed(?::r|:git)?):([a-z0-9]+):([^:]+)$/

const DIGEST_BYTES: ReadonlyMap<string, number> = new Map([
  ['md5', 16],
  ['sha1', 20],
  ['sha256', 32],
  ['sha512', 64],
  ['blake3', 32],
])

/**
 * The value of a CA line: `text:sha256:<nix32>`, `fixed:sha256:…`, `fixed:r:sha256:…`, `fixed:git:sha1:…`
 * (libstore/content-address.cc). Nix refuses the whole narinfo over a malformed one. Only the spelling is checked:
 * nothing here recomputes the store path, so a CA adds no trust.
 * @throws RangeError
 */
export function parseContentAddress(text: string): string {
  const [, algorithm = '', digest = ''] = CONTENT_ADDRESS.exec(text) ?? []
  const byteLength = DIGEST_BYTES.get(algorithm)
  if (byteLength === undefined || (text.startsWith('text:') && algorithm !== 'sha256')) {
    throw new RangeError(
      `content address: expected text:… or fixed:…, algorithm and hash, got ${quote(text)}`,
    )
  }
  decodeDigest(digest, byteLength)
  return text
}
