/**
 * A NAR that is here: leaf by leaf out of spool or store, each leaf hashed before it leaves, the leaves known from
 * the index, where a NAR stands only once its NarHash was proved. So any range of it can go out at once.
 */
import type { CID } from 'multiformats/cid'
import { DagError, readNode } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import type { NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { ByteRange, ReadOptions } from '../source.ts'
import type { LentBlock, LocalBlocks } from '../spool/local-blocks.ts'
import { chunkOptions } from '../spool/chunk-buffers.ts'
import { SpoolCorruptError, SpoolMissError } from '../spool/errors.ts'
import type { Spool } from '../spool/spool.ts'
import type { Stamp } from '../store/stamp.ts'
import { leafLinks } from './dag-walk.ts'
import { BlockUnavailableError } from './errors.ts'

/**
 * A NAR that this process proved and left in the spool, straight from its file.
 *
 * @throws BlockUnavailableError as soon as the file is not as it was left
 */
export async function* readSealedNar(
  nar: { narHash: NarHash; sealed: Stamp },
  range: ByteRange,
  spool: Pick<Spool, 'read'>,
  options: ReadOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { narHash, sealed } = nar
  try {
    yield* spool.read(narHash, range, { ...chunkOptions(options), sealed })
  } catch (error) {
    if (!(error instanceof SpoolMissError || error instanceof SpoolCorruptError)) throw error
    throw new BlockUnavailableError(error.message, { cause: error })
  }
}

interface LocalNar {
  readonly narHash: NarHash
  readonly root: CID
  readonly narSize: number
  /** As the index has them, if they are known. */
  readonly storePaths?: readonly StorePath[]
}

/** @throws BlockUnavailableError at the first leaf that is not here any more, or not as it was */
export async function* readLocalNar(
  nar: LocalNar,
  range: ByteRange,
  blocks: LocalBlocks,
  scope: 'shared' | 'all',
  options: ReadOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  let at = range.start
  if (options.reuse === true) {
    for await (const bytes of blocks.readProved(nar, range, options)) {
      at += bytes.length
      yield bytes
    }
  }
  if (at < range.end) yield* readLeaves(nar, { start: at, end: range.end }, blocks, scope, options)
}

async function* readLeaves(
  nar: LocalNar,
  range: ByteRange,
  blocks: LocalBlocks,
  scope: 'shared' | 'all',
  options: ReadOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { narHash, narSize, storePaths } = nar
  const place = storePaths === undefined ? { narHash, narSize } : { narHash, narSize, storePaths }
  const here = <T>(link: DagLink, found: T | undefined): T => {
    if (found !== undefined) return found
    throw new BlockUnavailableError(`block ${link.cid.toString()} is not here any more`)
  }
  const get = async (link: DagLink): Promise<LentBlock> => {
    if (options.reuse === true) {
      return here(link, await blocks.lendLeaf({ ...link, ...place }, scope, options))
    }
    return { bytes: here(link, await blocks.get(link.cid, scope, options)), release: () => {} }
  }
  const links = leafLinks(
    { ...nar, from: range.start },
    async (link) => {
      try {
        return readNode(link, here(link, await blocks.get(link.cid, scope, options)))
      } catch (error) {
        if (!(error instanceof DagError)) throw error
        throw new BlockUnavailableError(`the index has a wrong node: ${error.message}`, { cause: error })
      }
    },
    options,
  )
  // The next leaf is read and hashed while this one goes out.
  let ahead: { link: DagLink; block: Promise<LentBlock> } | undefined
  let previous: LentBlock | undefined
  for await (const link of links) {
    if (link.offset >= range.end) break
    const current = ahead
    const block = get(link)
    block.catch(() => {})
    ahead = { link, block }
    if (current === undefined) continue
    const found = await current.block
    yield slice(current.link, found.bytes, range)
    previous?.release()
    previous = found
  }
  if (ahead !== undefined) yield slice(ahead.link, (await ahead.block).bytes, range)
}

function slice(link: DagLink, bytes: Uint8Array, range: ByteRange): Uint8Array {
  return bytes.subarray(Math.max(0, range.start - link.offset), Math.min(link.size, range.end - link.offset))
}
