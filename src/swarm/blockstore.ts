import type { Blockstore } from 'interface-blockstore'
import type { CID } from 'multiformats/cid'
import type { CallOptions } from '../source.ts'

/** What may leave this machine, by block. */
export interface SharedBlocks {
  /** From the index alone: cheap, and no promise that `read` gives it. */
  has(cid: CID): boolean
  /** Hashed before it comes out; undefined when it is not there, is not shared or does not match any more. */
  read(cid: CID, options: CallOptions): Promise<Uint8Array | undefined>
}

/** Of a node that serves nothing. */
export const NO_BLOCKS: SharedBlocks = {
  has: () => false,
  read: () => Promise.resolve(undefined),
}

/** Helia knows it by its name, not by its class. */
class BlockNotFoundError extends Error {
  override readonly name = 'NotFoundError'
}

/**
 * The blockstore that Helia gets: it shows what is shared and keeps nothing. A block that was fetched went to the leaf
 * that waited for it, so `put` forgets; what we hold is in the spool and the store, and goes by their rules, so
 * `delete` and `getAll` have nothing to do.
 */
export function createHeliaBlockstore(blocks: SharedBlocks): Blockstore {
  async function* get(cid: CID, options?: Partial<CallOptions>): AsyncGenerator<Uint8Array> {
    const bytes = await blocks.read(cid, { signal: options?.signal ?? new AbortController().signal })
    if (bytes === undefined) throw new BlockNotFoundError(`no shared block ${cid.toString()}`)
    yield bytes
  }

  return {
    has: (cid) => blocks.has(cid),
    get,
    async *getMany(source, options) {
      for await (const cid of source) yield { cid, bytes: get(cid, options) }
    },
    // eslint-disable-next-line require-yield
    async *getAll() {},
    put: (cid) => cid,
    async *putMany(source) {
      for await (const { cid } of source) yield cid
    },
    delete() {},
    async *deleteMany(source) {
      yield* source
    },
  }
}
