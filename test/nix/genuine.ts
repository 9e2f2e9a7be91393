import { readdirSync, readFileSync } from 'node:fs'
import { vectorsDir } from '../kit/vectors.ts'

export const STORE_DIR = '/nix/store'

export const CACHE_NIXOS_ORG = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='

export interface GenuineNarInfo {
  /** Hash part and `.narinfo`. */
  file: string
  text: string
}

/** The narinfos of shared/vectors/narinfo, all signed by cache.nixos.org-1; none where the folder is absent. */
export function genuineNarInfos(): GenuineNarInfo[] {
  const dir = vectorsDir()
  if (dir === undefined) return []
  return readdirSync(`${dir}narinfo`)
    .sort()
    .map((file) => ({ file, text: readFileSync(`${dir}narinfo/${file}`, 'utf8') }))
}
