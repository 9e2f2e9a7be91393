import type { CID } from 'multiformats/cid'
import { blockMatches } from '../dag/cid.ts'
import { LOCAL_BLOCKS_WARNED_MAX_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import { SpoolMissError } from './errors.ts'
import type { LeafIndex, LeafLocation } from './leaf-index.ts'
import type { Spool } from './spool.ts'

/** 'shared': only blocks of NARs that others may have. 'all': for this machine's own use. */
type BlockScope = 'shared' | 'all'

/** Blocks by CID out of spool and store. The digest decides, as in every IPFS block store; the codec is not looked at. */
export interface LocalBlocks {
  /** Bytes whose hash has just been checked, or undefined. What is not right on disk is a miss, and told in the log once. */
  get(cid: CID, scope: BlockScope, options: CallOptions): Promise<Uint8Array | undefined>
  /** Bytes of the block if the index knows it, without a look at the disk. */
  size(cid: CID, scope: BlockScope): number | undefined
}

export function createLocalBlocks(deps: {
  index: LeafIndex
  spool: Pick<Spool, 'has' | 'read'>
  store?: LocalStore
  log: Log
}): LocalBlocks {
  const { index, spool, store, log } = deps
  const warned = new Set<string>()

  const warnOnce = (place: string, fields: object, message: string): void => {
    if (warned.has(place)) return
    if (warned.size >= LOCAL_BLOCKS_WARNED_MAX_COUNT) warned.clear()
    warned.add(place)
    log.warn(fields, message)
  }

  const findNode = (digest: Uint8Array, scope: BlockScope): Uint8Array | undefined => {
    const node = index.node(digest)
    return node !== undefined && (scope === 'all' || node.shared) ? node.bytes : undefined
  }

  const findLeaf = (digest: Uint8Array, scope: BlockScope): LeafLocation[] =>
    index.locate(digest).filter((location) => scope === 'all' || location.shared)

  /** The readers of one leaf: the spool's file, then each store path of the same NAR. */
  function* readers({ narHash, offset, size }: LeafLocation, options: CallOptions): Generator<Reader> {
    const range = { start: offset, end: offset + size }
    if (spool.has(narHash)) {
      yield { place: `spool:${narHash}`, range, open: () => spool.read(narHash, range, options) }
    }
    if (store === undefined) return
    for (const path of index.nar(narHash)?.storePaths ?? []) {
      yield { place: `store:${path}`, range, open: () => store.readNar(path, range, options) }
    }
  }

  const tryRead = async (
    cid: CID,
    reader: Reader,
    { signal }: CallOptions,
  ): Promise<Uint8Array | undefined> => {
    const { place, range } = reader
    try {
      const bytes = await collect(reader.open(), range.end - range.start)
      if (blockMatches(cid, bytes)) return bytes
      const fields = { place, ...range, cid: cid.toString() }
      warnOnce(
        place,
        fields,
        'local blocks: bytes on disk are not what was indexed, they are not given to anyone',
      )
    } catch (error) {
      signal.throwIfAborted()
      // Removed since `has`.
      if (error instanceof SpoolMissError) return undefined
      warnOnce(place, { place, ...range, err: error }, 'local blocks: a block cannot be read from disk')
    }
    return undefined
  }

  return {
    async get(cid, scope, options) {
      options.signal.throwIfAborted()
      const { digest } = cid.multihash
      const node = findNode(digest, scope)
      if (node !== undefined) {
        if (blockMatches(cid, node)) return node
        const text = cid.toString()
        warnOnce(
          `node:${text}`,
          { cid: text },
          'local blocks: an interior node in the database is not what was indexed',
        )
      }
      for (const location of findLeaf(digest, scope)) {
        for (const reader of readers(location, options)) {
          const bytes = await tryRead(cid, reader, options)
          if (bytes !== undefined) return bytes
        }
      }
      return undefined
    },
    size(cid, scope) {
      const { digest } = cid.multihash
      return findNode(digest, scope)?.length ?? findLeaf(digest, scope)[0]?.size
    },
  }
}

interface Reader {
  /** For the log. */
  place: string
  range: ByteRange
  open: () => AsyncIterable<Uint8Array>
}

/** One chunk is taken as it is. @throws RangeError when it is not `size` bytes in all */
async function collect(chunks: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  for await (const chunk of chunks) {
    length += chunk.length
    if (length > size) break
    parts.push(chunk)
  }
  if (length !== size) throw new RangeError(`expected ${size} bytes, got ${length > size ? 'more' : length}`)
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts, size)
}
