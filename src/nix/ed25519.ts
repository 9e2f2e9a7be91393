import { createHash } from 'node:crypto'
import { getPublicKey, hashes, sign } from '@noble/ed25519'

/**
 * noble's synchronous functions. They want a SHA-512 in a global of the library; it is put there on first use and not
 * at import, where it would be an effect of loading a module, and ours is OpenSSL's, which is the same function.
 */
export function ed25519(): { getPublicKey: typeof getPublicKey; sign: typeof sign } {
  hashes.sha512 ??= (message) => Uint8Array.from(createHash('sha512').update(message).digest())
  return { getPublicKey, sign }
}
