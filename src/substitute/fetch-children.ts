/** One interior node from whoever has it, read by the strict reader before it counts. */
import { LEAF_BYTES } from '../dag/profile.ts'
import { DagError, readNode } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import { NODE_STALL_MS } from '../limits.ts'
import type { BlockSource, CallOptions } from '../source.ts'
import { SourceFaultError } from '../source.ts'
import { countedFetch } from './counted-fetch.ts'
import { BlockUnavailableError, WayStalledError } from './errors.ts'
import type { SourceRoster } from './roster.ts'

/**
 * One source after the other; one that is silent for NODE_STALL_MS is not waited for alone.
 *
 * @throws BlockUnavailableError when nobody has it; DagError when the block is genuine and no node of a NAR of this
 * size: then whoever told the root is wrong, not the source
 */
export async function fetchChildren(
  link: DagLink,
  roster: SourceRoster,
  options: CallOptions & { onBytes?: (count: number, from: BlockSource) => void },
): Promise<readonly DagLink[]> {
  const over = new AbortController()
  const signal = AbortSignal.any([options.signal, over.signal])
  const asked = new Set<BlockSource>()
  const underWay = new Map<BlockSource, Promise<readonly DagLink[] | undefined>>()
  const slow = new Set<BlockSource>()

  const ask = async (source: BlockSource): Promise<readonly DagLink[] | undefined> => {
    const release = roster.started(source)
    try {
      // Not DAG_NODE_MAX_BYTES: a root that names a leaf as a node must not make an honest source a liar.
      const block = { cid: link.cid, maxBytes: LEAF_BYTES }
      const { bytes, wireBytes } = await countedFetch(source, block, {
        signal,
        onBytes(count) {
          roster.heard(source)
          options.onBytes?.(count, source)
        },
      })
      const children = readNode(link, bytes)
      release({ bytes: bytes.length, wireBytes })
      return children
    } catch (error) {
      if (signal.aborted) {
        if (slow.has(source)) release('stalled')
        else if (signal.reason instanceof WayStalledError) release('overtaken')
        return undefined
      }
      if (error instanceof DagError && error.reason !== 'digest') throw error
      release({ error })
      if (error instanceof SourceFaultError) asked.delete(source)
      return undefined
    } finally {
      release()
    }
  }

  const aborted = new Promise<undefined>((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
  })
  try {
    for (;;) {
      options.signal.throwIfAborted()
      const next = roster.pick(asked, () => Infinity)
      if (next !== undefined) {
        asked.add(next)
        const answer = ask(next).finally(() => underWay.delete(next))
        underWay.set(next, answer)
      } else if (underWay.size === 0) {
        throw new BlockUnavailableError(`no source has node ${link.cid.toString()}: ${roster.reasons()}`)
      }
      let timer: NodeJS.Timeout | undefined
      const stall = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => {
          for (const source of underWay.keys()) slow.add(source)
          resolve(undefined)
        }, NODE_STALL_MS)
      })
      const children = await Promise.race([...underWay.values(), stall, aborted])
      clearTimeout(timer)
      if (children !== undefined) return children
    }
  } finally {
    over.abort()
  }
}
