/**
 * The one answer to "may others have this path?", for every door: narinfos, NARs, blocks, CARs, bitswap, publishing. A share
 * key signed it, and the deny list does not name it [security 2.3]. What is asked by NarHash or CID has no name: it may go
 * when one of the paths that have these bytes may.
 */
import { formatPublicKey } from '../nix/key.ts'
import type { TrustedKeys } from '../nix/key.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import type { PathPattern } from '../nix/path-pattern.ts'
import type { HashPart, StorePath } from '../nix/store-path.ts'
import { createPolicy, PolicyError } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'

export interface SharePolicy {
  allows(info: NarInfo): boolean
  /** @throws PolicyError when others may not have it, with the reason in one line */
  verify(info: NarInfo, asked?: HashPart): VerifiedNarInfo
  /** All that it decides by, in one line: what was decided by another rule is to be decided anew. */
  readonly rule: string
}

export function createSharePolicy(config: {
  keys: TrustedKeys
  deny: readonly PathPattern[]
  storeDir: string
}): SharePolicy {
  const { keys, deny, storeDir } = config
  const signatures = createPolicy({ keys, threshold: 1, storeDir })
  const names = [...keys.keys()].join(', ') || 'none is configured'

  const denying = (path: StorePath): PathPattern | undefined => deny.find((pattern) => pattern.matches(path))

  return {
    allows: (info) => denying(info.storePath) === undefined && signatures.signedBy(info, keys),
    verify(info, asked) {
      const pattern = denying(info.storePath)
      if (pattern !== undefined) throw new PolicyError(`share.deny has ${pattern.text}`)
      try {
        return signatures.verify(info, asked)
      } catch (cause) {
        if (!(cause instanceof PolicyError)) throw cause
        throw new PolicyError(`no signature by a share key (${names})`, { cause })
      }
    },
    rule: [
      ...[...keys.values()].map(formatPublicKey).toSorted(),
      ...deny.map(({ text }) => `!${text}`).toSorted(),
    ].join(' '),
  }
}
