import { encodeBase64 } from '../nix/base64.ts'

/**
 * RFC 4648 section 4, padded and canonical, of any length; `undefined` otherwise. Signed notes have one spelling, so the
 * missing padding that Nix keys get away with is refused here.
 */
export function decodeBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64')
  return encodeBase64(bytes) === text ? bytes : undefined
}
