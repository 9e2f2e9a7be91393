import type { BlockRef, BlockSource, CallOptions } from '../source.ts'

/**
 * A block, every byte of it told once: as it comes where the source tells that, else when the whole is here.
 *
 * @param block.onBytes told of the first kind alone
 */
export async function countedFetch(
  source: BlockSource,
  block: BlockRef,
  { signal, onBytes }: CallOptions & { onBytes: (count: number) => void },
): Promise<Uint8Array> {
  let told = 0
  const bytes = await source.fetch(
    {
      ...block,
      onBytes(count) {
        told += count
        block.onBytes?.(count)
        onBytes(count)
      },
    },
    { signal },
  )
  if (told < bytes.length) onBytes(bytes.length - told)
  return bytes
}
