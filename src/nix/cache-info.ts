import { CACHE_INFO_MAX_BYTES } from '../limits.ts'
import { quote } from './quote.ts'

/** A cache's `nix-cache-info` (nix-protocol A2). */
export interface CacheInfo {
  /** Absent: the cache does not say, and Nix accepts it. */
  storeDir?: string
  wantMassQuery: boolean
  /** Lower is asked first; absent when the file had none that is a number. */
  priority?: number
}

/** The answer is no nix-cache-info: the cache is not to be used. */
export class CacheInfoError extends Error {
  override readonly name = 'CacheInfoError'
}

/** Nix reads it by std::stoi and dies on anything larger. */
const PRIORITY_MAX = 2 ** 31 - 1

/**
 * Takes what Nix takes: lines without a colon and unknown names are skipped, values trimmed (so CRLF is fine), of
 * several lines of one name the last counts. A priority that would make Nix die counts as absent.
 * @throws CacheInfoError when it is too large, holds no line we know (an HTML page with status 200), or names two
 * store directories
 */
export function parseCacheInfo(text: string): CacheInfo {
  const size = Buffer.byteLength(text)
  if (size > CACHE_INFO_MAX_BYTES) {
    throw new CacheInfoError(`nix-cache-info: ${size} bytes, at most ${CACHE_INFO_MAX_BYTES} are read`)
  }
  const info: CacheInfo = { wantMassQuery: false }
  let known = 0
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (colon < 0) continue
    known++
    const value = line.slice(colon + 1).trim()
    switch (line.slice(0, colon)) {
      case 'StoreDir':
        if (info.storeDir !== undefined && info.storeDir !== value) {
          throw new CacheInfoError(
            `nix-cache-info: two store directories, ${quote(info.storeDir)} and ${quote(value)}`,
          )
        }
        info.storeDir = value
        break
      case 'WantMassQuery':
        info.wantMassQuery = value === '1'
        break
      case 'Priority':
        setPriority(info, value)
        break
      default:
        known--
    }
  }
  if (known === 0) {
    throw new CacheInfoError(
      `nix-cache-info: no line of the form "Name: value" with StoreDir, WantMassQuery or Priority, got ${quote(text)}`,
    )
  }
  return info
}

function setPriority(info: CacheInfo, value: string): void {
  delete info.priority
  const priority = Number(value)
  if (/^[0-9]{1,10}$/.test(value) && priority <= PRIORITY_MAX) info.priority = priority
}

/** Priority is compulsory: without one Nix counts 0, that is, first of all (nix-protocol 0.9). */
export function formatCacheInfo(info: Required<CacheInfo>): string {
  return `StoreDir: ${info.storeDir}\nWantMassQuery: ${info.wantMassQuery ? 1 : 0}\nPriority: ${info.priority}\n`
}
