import { formatNarHash } from './hash.ts'
import type { NarHash } from './hash.ts'
import { formatStorePath } from './store-path.ts'
import type { StorePath } from './store-path.ts'

/** All that a signature of Nix covers: not URL, Compression, FileHash, FileSize, Deriver, System or CA. */
export interface SignedFields {
  storePath: StorePath
  narHash: NarHash
  /** Bytes. */
  narSize: number
  references: readonly StorePath[]
}

/**
 * The text that is signed (libstore/path-info.cc, fingerprint): `1;` path `;` `sha256:` nix32 `;` size `;` and the
 * references as absolute paths, a sorted set joined by commas.
 */
export function fingerprint(fields: SignedFields, storeDir: string): string {
  const path = formatStorePath(fields.storePath, storeDir)
  const references = sortedSet(fields.references).map((reference) => formatStorePath(reference, storeDir))
  return `1;${path};${formatNarHash(fields.narHash)};${fields.narSize};${references.join(',')}`
}

/** Bytewise, as std::set does: base names are ASCII, where JavaScript's order of UTF-16 units is the same. */
export function sortedSet(paths: readonly StorePath[]): StorePath[] {
  return [...new Set(paths)].sort()
}
