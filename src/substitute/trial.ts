/** How far an older path matches a wanted one, for a person who asks why: hashed as `rewriting.ts` would, and forgotten. */
import { DIGEST_BYTES } from '../dag/cid.ts'
import { messageOf } from '../log.ts'
import type { SignedFields } from '../nix/fingerprint.ts'
import type { CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { Relative } from '../store/relatives.ts'
import { hashRewritten } from './rewritten-hash.ts'

export interface Trial {
  /** `unpaired`: a reference of one of the two has no pair, so that the whole cannot be right and is not even hashed. */
  readonly outcome: 'right' | 'wrong' | 'unpaired' | 'unreadable'
  /** Why it is unreadable. */
  readonly reason?: string
  /** Those that are right by themselves, where the wanted ones are known and the whole is not right. */
  readonly leaves?: { readonly right: number; readonly of: number }
}

/**
 * @param wanted SHA-256 of each leaf of the wanted NAR, one after the other; undefined when nobody told
 * @throws the signal's reason
 */
export async function tryRelative(
  info: SignedFields,
  { storePath, pairings, isComplete }: Relative,
  wanted: Uint8Array | undefined,
  store: Pick<LocalStore, 'readNarInto'>,
  options: CallOptions,
): Promise<Trial> {
  const { narSize, narHash } = info
  let leaves: Trial['leaves']
  // Leaves are made by the first of the pairings alone.
  const [first = []] = pairings
  const attempts = isComplete ? pairings : wanted === undefined ? [] : [first]
  try {
    for (const rewrites of attempts) {
      const hashing = rewrites === first && wanted !== undefined ? 'hashed' : 'given'
      const hashed = await hashRewritten({ storePath, narSize, rewrites }, hashing, store, options)
      if (hashed.narHash === narHash) return { outcome: 'right' }
      if (wanted !== undefined && hashed.plan !== undefined) leaves ??= alike(hashed.plan.leaves, wanted)
    }
  } catch (error) {
    options.signal.throwIfAborted()
    return { outcome: 'unreadable', reason: messageOf(error) }
  }
  return { outcome: isComplete ? 'wrong' : 'unpaired', ...(leaves === undefined ? {} : { leaves }) }
}

function alike(came: Uint8Array, wanted: Uint8Array): { right: number; of: number } {
  let right = 0
  for (let at = 0; at < wanted.length; at += DIGEST_BYTES) {
    const end = at + DIGEST_BYTES
    if (Buffer.compare(came.subarray(at, end), wanted.subarray(at, end)) === 0) right += 1
  }
  return { right, of: wanted.length / DIGEST_BYTES }
}
