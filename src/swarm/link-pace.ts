import {
  CODED_BELOW_BYTES_PER_S,
  CODED_ON_LOOPBACK_BELOW_BYTES_PER_S,
  CODED_UNTIL_FACTOR,
  LINK_SAMPLE_BYTES,
  LINK_SAMPLE_MS,
} from '../limits.ts'

/**
 * What the link to one peer carries: bytes on the wire in the time in which at least one body was coming. Not in that of whole
 * requests: a peer codes a leaf before its head goes out, and the pace of its coder says nothing about the link.
 */
export interface LinkPace {
  /** The head of an answer is here. */
  began(): void
  came(bytes: number): void
  /** After each `began`. */
  ended(): void
  /** Whether coded leaves pay (docs/adr/019). */
  isSlow(): boolean
  /** Of the last sample. */
  bytesPerS(): number | undefined
}

/**
 * A line counts as slow until it was measured: one of 300 KiB/s is not to be measured with raw leaves. Loopback counts as quick,
 * though a tunnel may begin there.
 */
export function createLinkPace(
  { clock }: { clock: () => number },
  { isOnLoopback }: { readonly isOnLoopback: boolean },
): LinkPace {
  const below = isOnLoopback ? CODED_ON_LOOPBACK_BELOW_BYTES_PER_S : CODED_BELOW_BYTES_PER_S
  let coming = 0
  let since = 0
  let ms = 0
  let bytes = 0
  let pace: number | undefined
  let slow = !isOnLoopback

  const settle = (): void => {
    const now = clock()
    ms += now - since
    since = now
    if (bytes < LINK_SAMPLE_BYTES || ms < LINK_SAMPLE_MS) return
    pace = (bytes / ms) * 1000
    slow = pace < (slow ? CODED_UNTIL_FACTOR * below : below)
    ms = 0
    bytes = 0
  }

  return {
    began() {
      if (coming === 0) since = clock()
      coming += 1
    },
    came: (count) => void (bytes += count),
    ended() {
      settle()
      coming -= 1
    },
    isSlow: () => slow,
    bytesPerS: () => pace,
  }
}
