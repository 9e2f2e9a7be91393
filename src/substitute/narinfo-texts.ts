import { formatNarInfo } from '../nix/narinfo.ts'
import type { VerifiedNarInfo } from './policy.ts'

/**
 * Narinfos as they are answered, each written once: sorting references and writing base64 anew took a third of what a
 * warm answer costs. A text lives as long as its narinfo does in the resolver's memory.
 */
export function createNarInfoTexts(config: { storeDir: string }): (info: VerifiedNarInfo) => string {
  const texts = new WeakMap<VerifiedNarInfo, string>()
  return (info) => {
    let text = texts.get(info)
    if (text === undefined) {
      text = formatNarInfo(info, config.storeDir)
      texts.set(info, text)
    }
    return text
  }
}
