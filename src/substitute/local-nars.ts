/** NARs that are here, in the spool or in the Nix store, for our own Nix. */
import { planNar } from '../dag/planner.ts'
import { messageOf } from '../log.ts'
import type { Log } from '../log.ts'
import type { NarHash } from '../nix/hash.ts'
import { hashPartOf } from '../nix/store-path.ts'
import type { ByteRange, CallOptions, ReadOptions } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { LocalBlocks } from '../spool/local-blocks.ts'
import type { Spool } from '../spool/spool.ts'
import type { LocalStore } from '../store/local-store.ts'
import { abortable } from '../upstream/abortable.ts'
import { readLocalNar, readSealedNar } from './local-nar.ts'
import type { VerifiedNarInfo } from './policy.ts'

export interface LocalNars {
  /** By what index, spool and store say; nothing is read. */
  has(info: VerifiedNarInfo): boolean
  /** A spool file as it was left, else leaf by leaf; undefined when it is not here. */
  open(info: VerifiedNarInfo, options: CallOptions): Promise<LocalReader | undefined>
  /** Leaf by leaf, each hashed; undefined when it is not here. */
  openHashed(info: VerifiedNarInfo, options: CallOptions): Promise<LocalReader['read'] | undefined>
  /** Puts a NAR of the spool into the index, if it is not there yet. */
  index(info: VerifiedNarInfo, options: CallOptions): Promise<void>
  /** It is not here any more, or not as it was. */
  forget(info: VerifiedNarInfo, error: unknown): Promise<void>
}

interface LocalReader {
  readonly from: 'spool' | 'store'
  /** @throws BlockUnavailableError, at any byte */
  read(range: ByteRange, options: ReadOptions): AsyncGenerator<Uint8Array, void, undefined>
}

/** @param closing ends what is read for the index */
export function createLocalNars(
  deps: {
    spool: Spool
    index: LeafIndex
    blocks: LocalBlocks
    store: LocalStore | undefined
    /** Whether others may have it. */
    shareable(info: VerifiedNarInfo): boolean
    log: Log
  },
  closing: AbortSignal,
): LocalNars {
  const { spool, index, blocks, store, log } = deps
  const adopting = new Map<NarHash, Promise<void>>()

  /**
   * Bytes that are here and not in the index: a path of the local store that nobody asked for yet, a spool file whose
   * row a crash cost. Hashed once, read again for each who asks, never copied (P5).
   */
  async function adopt(info: VerifiedNarInfo): Promise<void> {
    const inSpool = spool.has(info.narHash)
    const inStore = isInStore(info)
    if (!inSpool && !inStore) return
    // Whoever asked may go; the others, and the next, still want it.
    const options = { signal: closing }
    try {
      const bytes = inSpool
        ? spool.read(info.narHash, { start: 0, end: info.narSize }, options)
        : store?.readNar(info.storePath, undefined, options)
      if (bytes === undefined) return
      const plan = await planNar(bytes)
      if (plan.narHash !== info.narHash) throw new Error(`its bytes hash to ${plan.narHash}`)
      const storePath = inStore ? { storePath: info.storePath } : {}
      index.put(plan, { shared: deps.shareable(info), inSpool, ...storePath })
    } catch (error) {
      if (closing.aborted) throw error
      await forget(info, error)
    }
  }

  function isInStore(info: VerifiedNarInfo): boolean {
    return store?.pathInfo(hashPartOf(info.storePath))?.narHash === info.narHash
  }

  function adoptOnce(info: VerifiedNarInfo): Promise<void> {
    let flight = adopting.get(info.narHash)
    if (flight === undefined) {
      flight = adopt(info).finally(() => adopting.delete(info.narHash))
      adopting.set(info.narHash, flight)
    }
    return flight
  }

  async function openHashed(
    info: VerifiedNarInfo,
    { signal }: CallOptions,
  ): Promise<LocalReader['read'] | undefined> {
    const { narHash } = info
    if (index.nar(narHash) === undefined) await abortable(adoptOnce(info), signal)
    const nar = index.nar(narHash)
    if (nar === undefined) return undefined
    const { root, narSize } = nar
    return (range, options) => readLocalNar({ narHash, narSize, root }, range, blocks, 'all', options)
  }

  async function forget(info: VerifiedNarInfo, error: unknown): Promise<void> {
    const reason = messageOf(error)
    log.warn({ path: info.storePath }, `a NAR that was here is not served any more: ${reason}`)
    index.drop(info.narHash)
    await spool.remove(info.narHash)
  }

  return {
    has: (info) => index.nar(info.narHash) !== undefined || spool.has(info.narHash) || isInStore(info),
    async open(info, options) {
      const { narHash } = info
      const sealed = spool.seal(narHash)
      if (sealed !== undefined) {
        const nar = { narHash, sealed }
        return { from: 'spool', read: (range, inner) => readSealedNar(nar, range, spool, inner) }
      }
      const read = await openHashed(info, options)
      return read && { from: spool.has(narHash) ? 'spool' : 'store', read }
    },
    openHashed,
    async index(info, { signal }) {
      if (!spool.has(info.narHash) || index.nar(info.narHash) !== undefined) return
      await abortable(adoptOnce(info), signal)
    },
    forget,
  }
}
