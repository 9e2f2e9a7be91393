import type { BlockRef, BlockSource, CallOptions } from '../source.ts'

/**
 * A block, every byte of it told once: as it comes where the source tells that, else when the whole is here. A block that came
 * coded is told as what was on the wire, and the rest of it at its end.
 */
export async function countedFetch(
  source: BlockSource,
  block: BlockRef,
  { signal, onBytes }: CallOptions & { onBytes: (count: number) => void },
): Promise<CountedBlock> {
  let told = 0
  let byDifference = false
  const bytes = await source.fetch(
    {
      ...block,
      onBytes(count) {
        told += count
        onBytes(count)
      },
      onDifference: () => void (byDifference = true),
    },
    { signal },
  )
  const wireBytes = told === 0 ? bytes.length : told
  if (told < bytes.length) onBytes(bytes.length - told)
  return { bytes, wireBytes, byDifference }
}

export interface CountedBlock {
  readonly bytes: Uint8Array
  /** As many as the block has when the source does not tell. */
  readonly wireBytes: number
  /** From an older block that is here. */
  readonly byDifference: boolean
}
