/** NARs on their way here, and those that our Nix will probably ask for next, for neighbours who want them too. */
import { EXPECTED_NARS_MAX_COUNT, EXPECTED_NAR_MS } from '../limits.ts'
import type { NarHash } from '../nix/hash.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import { createFading } from '../spool/fading.ts'
import type { Part } from './along-ways.ts'
import type { VerifiedNarInfo } from './policy.ts'
import { createProgress } from './progress.ts'

interface NarUnderWay {
  readonly info: VerifiedNarInfo
  readonly part: Part
  /** As `Readers.follow`. */
  follow(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>
}

export interface UnderWay {
  get(narHash: NarHash): NarUnderWay | undefined
  /** Its narinfo went to our Nix lately, and no bytes were fetched since. */
  expected(narHash: NarHash): VerifiedNarInfo | undefined
  /** Resolves when a NAR began, ended or plays another part. @throws the signal's reason */
  turned(options: CallOptions): Promise<void>
}

/** Owner: `Transfers`. */
export interface UnderWayTable extends UnderWay {
  expect(info: VerifiedNarInfo): void
  add(nar: NarUnderWay): void
  remove(narHash: NarHash): void
  turn(): void
}

export function createUnderWay({ clock }: { clock: () => number }): UnderWayTable {
  const nars = new Map<NarHash, NarUnderWay>()
  const expected = createFading<NarHash, VerifiedNarInfo>({
    max: EXPECTED_NARS_MAX_COUNT,
    maxAgeMs: EXPECTED_NAR_MS,
    clock,
  })
  const turns = createProgress()
  return {
    get: (narHash) => nars.get(narHash),
    expected: (narHash) => expected.get(narHash),
    turned: ({ signal }) => turns.wait(signal),
    expect: (info) => void expected.set(info.narHash, info),
    add(nar) {
      nars.set(nar.info.narHash, nar)
      expected.delete(nar.info.narHash)
      turns.notify()
    },
    remove(narHash) {
      nars.delete(narHash)
      turns.notify()
    },
    turn: () => turns.notify(),
  }
}
