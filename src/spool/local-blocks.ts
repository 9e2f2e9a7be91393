import type { CID } from 'multiformats/cid'
import { blockMatches } from '../dag/cid.ts'
import { createLeafBuffers } from '../dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { LOCAL_BLOCKS_BUFFERS_COUNT, LOCAL_BLOCKS_WARNED_MAX_COUNT } from '../limits.ts'
import type { Log } from '../log.ts'
import type { ByteRange, CallOptions } from '../source.ts'
import type { LocalStore } from '../store/local-store.ts'
import { readOnce } from '../store/nar-stream.ts'
import type { NarReader } from '../store/nar-stream.ts'
import type { NarHash } from '../nix/hash.ts'
import type { StorePath } from '../nix/store-path.ts'
import { createChunkBuffers } from './chunk-buffers.ts'
import type { ChunkBuffers } from './chunk-buffers.ts'
import { SpoolMissError } from './errors.ts'
import type { LeafIndex, LeafLocation } from './leaf-index.ts'
import { createProofs } from './proofs.ts'
import type { Spool } from './spool.ts'

/** 'shared': only blocks of NARs that others may have. 'all': for this machine's own use. */
type BlockScope = 'shared' | 'all'

/** Blocks by CID out of spool and store. The digest decides, as in every IPFS block store; the codec is not looked at. */
export interface LocalBlocks {
  /** Bytes whose hash was checked, now or when they were read last from the same unchanged files; or undefined. What is not right on disk is a miss, and told in the log once. */
  get(cid: CID, scope: BlockScope, options: GetOptions): Promise<Uint8Array | undefined>
  /** The same in a buffer that is used again once it is released: for who sends a block away and forgets it. */
  lend(cid: CID, scope: BlockScope, options: CallOptions): Promise<LentBlock | undefined>
  /**
   * As `lend`, a leaf of a NAR that is known, and may be had in this scope: looked for there first, without asking the index
   * for each of its leaves.
   */
  lendLeaf(leaf: KnownLeaf, scope: BlockScope, options: CallOptions): Promise<LentBlock | undefined>
  /**
   * Bytes of such a NAR for a reader with `reuse`, as long as each leaf was hashed before and its files are as they were:
   * nobody has to ask which leaf it is. Ends at the first that is not so.
   */
  readProved(
    nar: KnownNar,
    range: ByteRange,
    options: CallOptions,
  ): AsyncGenerator<Uint8Array, void, undefined>
  /** Bytes of the block if the index knows it, without a look at the disk. */
  size(cid: CID, scope: BlockScope): number | undefined
}

interface GetOptions extends CallOptions {
  /** LEAF_BYTES long: where a leaf is put, instead of in a buffer of its own. */
  readonly into?: Uint8Array
}

interface KnownNar {
  readonly narHash: NarHash
  readonly narSize: number
  /** As the index has them; asked for otherwise. */
  readonly storePaths?: readonly StorePath[]
}

interface KnownLeaf extends KnownNar {
  readonly cid: CID
  /** In the NAR. */
  readonly offset: number
  readonly size: number
}

export interface LentBlock {
  readonly bytes: Uint8Array
  /** To be called once nobody reads the bytes any more; never is no harm but garbage. */
  release(): void
}

export function createLocalBlocks(deps: {
  index: LeafIndex
  spool: Pick<Spool, 'has' | 'readInto'>
  store?: Pick<LocalStore, 'openNar'>
  log: Log
  clock?: () => number
  /** For one reader of a NAR. */
  chunkBuffers?: () => ChunkBuffers
}): LocalBlocks {
  const { index, spool, store, log, clock = Date.now, chunkBuffers = createChunkBuffers } = deps
  const proofs = createProofs({ clock })
  const warned = new Set<string>()
  const buffers = createLeafBuffers(LOCAL_BLOCKS_BUFFERS_COUNT)

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

  /** Where the leaves of a NAR may be read: the spool's file, and each store path of the same NAR; these first where they are known. */
  function* readers({ narHash, storePaths }: KnownNar): Generator<Reader> {
    if (storePaths !== undefined) yield* storeReaders(storePaths)
    if (spool.has(narHash)) {
      yield {
        place: `spool:${narHash}`,
        open: () =>
          Promise.resolve({
            read: (start, target) => spool.readInto(narHash, start, target),
            close: () => {},
          }),
      }
    }
    if (storePaths !== undefined) return
    yield* storeReaders(index.nar(narHash)?.storePaths ?? [])
  }

  function* storeReaders(paths: readonly StorePath[]): Generator<Reader> {
    if (store === undefined) return
    for (const path of paths)
      yield { place: `store:${path}`, open: (options) => store.openNar(path, options) }
  }

  const tryRead = async (
    cid: CID,
    location: LeafPlace,
    { place, open }: Reader,
    target: Uint8Array,
    options: CallOptions,
  ): Promise<boolean> => {
    const range = { start: location.offset, end: location.offset + location.size }
    try {
      const stamp = await readOnce(await open(options), range.start, target)
      if (proofs.has(place, location, stamp)) return true
      if (blockMatches(cid, target)) {
        proofs.add(place, location, stamp)
        return true
      }
      const fields = { place, ...range, cid: cid.toString() }
      warnOnce(
        place,
        fields,
        'local blocks: bytes on disk are not what was indexed, they are not given to anyone',
      )
    } catch (error) {
      options.signal.throwIfAborted()
      // Removed since `has`.
      if (error instanceof SpoolMissError) return false
      warnOnce(place, { place, ...range, err: error }, 'local blocks: a block cannot be read from disk')
    }
    return false
  }

  /** @param take makes room for so many bytes */
  const read = async (
    cid: CID,
    scope: BlockScope,
    take: (size: number) => Uint8Array,
    options: CallOptions,
  ): Promise<Uint8Array | undefined> => {
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
      const target = take(location.size)
      if (await readFrom(location, cid, target, options)) return target
    }
    return undefined
  }

  const readFrom = async (
    location: LeafPlace,
    cid: CID,
    target: Uint8Array,
    options: CallOptions,
  ): Promise<boolean> => {
    for (const reader of readers(location)) {
      if (await tryRead(cid, location, reader, target, options)) return true
    }
    return false
  }

  const lend: LocalBlocks['lend'] = async (cid, scope, options) => {
    const taken: Uint8Array[] = []
    const take = (size: number): Uint8Array => {
      const buffer = buffers.take()
      taken.push(buffer)
      return buffer.subarray(0, size)
    }
    const release = (): void => {
      for (const buffer of taken) buffers.give(buffer)
    }
    const bytes = await read(cid, scope, take, options)
    if (bytes !== undefined) return { bytes, release }
    release()
    return undefined
  }

  return {
    get: (cid, scope, options) =>
      read(cid, scope, (size) => options.into?.subarray(0, size) ?? Buffer.allocUnsafeSlow(size), options),

    lend,

    async lendLeaf(leaf, scope, options) {
      options.signal.throwIfAborted()
      const buffer = buffers.take()
      const bytes = buffer.subarray(0, leaf.size)
      if (await readFrom(leaf, leaf.cid, bytes, options))
        return { bytes, release: () => buffers.give(buffer) }
      buffers.give(buffer)
      return lend(leaf.cid, scope, options)
    },

    async *readProved(nar, range, options) {
      const first = leafAt(nar, range.start)
      const reader = readers(nar).find(({ place }) => proofs.alike(place, first, 1) > 0)
      if (reader === undefined) return
      let opened: NarReader | undefined
      try {
        opened = await reader.open(options)
        const chunks = chunkBuffers()
        for (let { start } = range; start < range.end;) {
          options.signal.throwIfAborted()
          const leaf = leafAt(nar, start)
          const wanted = Math.min(chunks.size, range.end - leaf.offset)
          const count = proofs.alike(reader.place, leaf, Math.ceil(wanted / LEAF_BYTES))
          if (count === 0) return
          const { offset } = leaf
          const bytes = chunks.next(Math.min(count * LEAF_BYTES, nar.narSize - offset))
          if (!proofs.has(reader.place, leaf, await opened.read(offset, bytes))) return
          const end = Math.min(offset + bytes.length, range.end)
          yield bytes.subarray(start - offset, end - offset)
          start = end
        }
      } catch {
        // Whoever reads on by leaf is told why it cannot be had.
        options.signal.throwIfAborted()
      } finally {
        opened?.close()
      }
    },

    size(cid, scope) {
      const { digest } = cid.multihash
      return findNode(digest, scope)?.length ?? findLeaf(digest, scope)[0]?.size
    },
  }
}

type LeafPlace = Pick<LeafLocation, 'narHash' | 'narSize' | 'offset' | 'size'> & Pick<KnownLeaf, 'storePaths'>

function leafAt({ narSize }: KnownNar, at: number): { offset: number; narSize: number } {
  return { offset: Math.floor(at / LEAF_BYTES) * LEAF_BYTES, narSize }
}

interface Reader {
  /** For the log. */
  place: string
  open: (options: CallOptions) => Promise<NarReader>
}
