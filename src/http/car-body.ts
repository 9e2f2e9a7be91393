/** The blocks of a CAR that a gateway sends, in depth-first order, with no more of them in memory than the one going out. */
import type { CID } from 'multiformats/cid'
import type { CarBlock } from '../dag/car.ts'
import { readNode } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import { BlockUnavailableError } from '../substitute/errors.ts'
import type { CarRequest } from './gateway-request.ts'

export type GetBlock = (cid: CID, options: CallOptions) => Promise<Uint8Array | undefined>

/**
 * @throws BlockUnavailableError where a block of the DAG is not here: the CAR must be cut there, and whoever reads it
 * notices (a CAR has no other way to say so)
 */
export async function* carBlocks(
  root: DagLink,
  request: CarRequest,
  get: GetBlock,
  options: CallOptions,
): AsyncGenerator<CarBlock, void, undefined> {
  const wanted = request.entityBytes === undefined ? undefined : resolve(request.entityBytes, root.size)
  const sent = new Set<string>()
  yield* descend(root)

  async function* descend(link: DagLink): AsyncGenerator<CarBlock, void, undefined> {
    const key = request.dups ? undefined : digestKey(link.cid)
    const first = key === undefined || !sent.has(key)
    // A leaf that went out is not even read again; of a node the children may differ in what is wanted of them.
    if (!first && link.depth === 0) return
    const bytes = await get(link.cid, options)
    if (bytes === undefined)
      throw new BlockUnavailableError(`block ${link.cid.toString()} is not here any more`)
    if (first) yield { cid: link.cid, bytes }
    if (key !== undefined) sent.add(key)
    if (link.depth === 0) return
    for (const child of readNode(link, bytes)) {
      if (wanted === undefined || overlaps(child, wanted)) yield* descend(child)
    }
  }
}

/** Beyond the end there is nothing, and the root alone proves it. */
function resolve(entityBytes: NonNullable<CarRequest['entityBytes']>, size: number): ByteRange {
  const { from, to } = entityBytes
  const start = from < 0 ? Math.max(0, size + from) : from
  const last = to === undefined ? size - 1 : to < 0 ? size + to : to
  return { start, end: Math.min(last + 1, size) }
}

function overlaps(link: DagLink, range: ByteRange): boolean {
  return link.offset < range.end && link.offset + link.size > range.start
}

function digestKey(cid: CID): string {
  return Buffer.from(cid.multihash.digest).toString('latin1')
}
