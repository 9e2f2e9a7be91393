/**
 * The one place that believes a narinfo. Everything else passes candidates around.
 */
import { fingerprint } from '../nix/fingerprint.ts'
import type { KeyName, TrustedKeys } from '../nix/key.ts'
import type { NarInfo } from '../nix/narinfo.ts'
import { verify } from '../nix/signature.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { HashPart } from '../nix/store-path.ts'

const verified: unique symbol = Symbol('verified')

/**
 * A narinfo whose signed fields (store path, NarHash, NarSize, references) a trusted key vouches for.
 * Only `createPolicy` makes one: the symbol leaves this file as a type alone.
 */
export type VerifiedNarInfo = NarInfo & { readonly [verified]: readonly KeyName[] }

/** A narinfo that must not be believed. The next candidate may still be good. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  /** A signature is by the name of a trusted key, and not by the key. */
  readonly forged: boolean
  constructor(message: string, options: ErrorOptions & { forged?: boolean } = {}) {
    super(message, options)
    this.forged = options.forged ?? false
  }
}

export interface Policy {
  /** @throws PolicyError with the reason in one line */
  verify(info: NarInfo, asked?: HashPart): VerifiedNarInfo
  /** Whether one of the keys of `keys` signed it: what the share policy asks. */
  signedBy(info: NarInfo, keys: TrustedKeys): boolean
}

/**
 * @param config.threshold how many different trusted public keys must have signed (1 unless the user wants m-of-n)
 * @throws RangeError for a threshold below 1, which would believe everybody
 */
export function createPolicy(config: { keys: TrustedKeys; threshold: number; storeDir: string }): Policy {
  const { keys, threshold, storeDir } = config
  if (!Number.isInteger(threshold) || threshold < 1) {
    throw new RangeError(`expected a threshold of at least 1 signature, got ${threshold}`)
  }

  return {
    verify(info, asked) {
      if (asked !== undefined && hashPartOf(info.storePath) !== asked) {
        throw new PolicyError(
          `asked for the path with hash part ${asked}, got a narinfo of ${info.storePath}`,
        )
      }
      const text = fingerprint(info, storeDir)
      const good = new Set<string>()
      const names: KeyName[] = []
      let forged = false
      const signatures = info.signatures.filter((signature) => {
        const key = keys.get(signature.keyName)
        // A stranger's signature says nothing to us, but the user's own Nix may know the key.
        if (key === undefined) return true
        if (!verify(key, text, signature)) {
          forged = true
          return false
        }
        // Counted by key, not by name: one key under two names is one vote.
        const bytes = Buffer.from(key.bytes).toString('hex')
        if (!good.has(bytes)) names.push(key.name)
        good.add(bytes)
        return true
      })
      if (good.size < threshold) {
        throw new PolicyError(refusal(info, names, keys, threshold), { forged })
      }
      return {
        storePath: info.storePath,
        url: `nar/${info.narHash}.nar`,
        compression: 'none',
        fileHash: info.narHash,
        fileSize: info.narSize,
        narHash: info.narHash,
        narSize: info.narSize,
        references: info.references,
        signatures,
        ...(info.cid === undefined ? {} : { cid: info.cid }),
        [verified]: names,
      }
    },

    signedBy(info, wanted) {
      const text = fingerprint(info, storeDir)
      return info.signatures.some((signature) => {
        const key = wanted.get(signature.keyName)
        return key !== undefined && verify(key, text, signature)
      })
    },
  }
}

/** The key names that vouched: for the log and `status`. */
export function vouchers(info: VerifiedNarInfo): readonly KeyName[] {
  return info[verified]
}

function refusal(info: NarInfo, good: KeyName[], keys: TrustedKeys, threshold: number): string {
  const came =
    info.signatures.length === 0
      ? 'it carries no signature'
      : `its signatures are by ${info.signatures.map((one) => one.keyName).join(', ')}`
  const wanted = `${threshold} good signature${threshold === 1 ? '' : 's'} by ${[...keys.keys()].join(', ') || 'a trusted key, and none is configured'}`
  return `narinfo of ${info.storePath} refused: expected ${wanted}, got ${good.length}; ${came}`
}
