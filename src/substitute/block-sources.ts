import type { BlockSource } from '../source.ts'
import type { VerifiedNarInfo } from './policy.ts'

/**
 * Who may be asked for blocks of this NAR just now, as a snapshot: neighbours come and go, and not everybody is to hear
 * of every path.
 */
export type BlockSources = (info: VerifiedNarInfo) => readonly BlockSource[]
