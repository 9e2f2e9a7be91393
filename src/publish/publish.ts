/**
 * What a publisher does with each path: plan its NAR (hash, CID, index), append its mapping to the feed.
 *
 * Only what others may have is published: the name alone of somebody's own path may be a secret [security 2.3].
 */
import { messageOf } from '../log.ts'
import { createPlanner, planNar } from '../dag/planner.ts'
import type { NarPlan } from '../dag/planner.ts'
import { EntryTooLargeError, formatEntry } from '../feed/entry.ts'
import type { MappingEntry } from '../feed/entry.ts'
import type { Publisher as FeedPublisher } from '../feed/publisher.ts'
import { FEED_ENTRY_MAX_SIGNATURES, PUBLISH_BATCH_COUNT } from '../limits.ts'
import { createNarReader } from '../nix/nar-reader.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { CallOptions, StreamSource } from '../source.ts'
import type { LeafIndex } from '../spool/leaf-index.ts'
import type { Spool } from '../spool/spool.ts'
import type { LocalStore } from '../store/local-store.ts'
import type { NarInfoTable } from '../substitute/narinfo-table.ts'
import { PolicyError } from '../substitute/policy.ts'
import type { VerifiedNarInfo } from '../substitute/policy.ts'
import type { Candidate } from './candidates.ts'
import { PublishError } from './errors.ts'
import type { SharePolicy } from './share-policy.ts'

/** What became of one path. */
export interface PublishItem {
  readonly path: StorePath
  readonly narSize: number
  readonly outcome: 'published' | 'would-publish' | 'skipped'
  readonly cid?: string
  /** Why it was skipped. */
  readonly reason?: string
}

export interface Publisher {
  /**
   * One item a path, in order; entries are in the feed when it ends, and before that a batch at a time.
   *
   * @throws PublishError when the bytes of a path are not what its narinfo says; the paths before it are published
   */
  publish(
    candidates: readonly Candidate[],
    request: { feed: FeedPublisher; dryRun: boolean },
    options: CallOptions,
  ): AsyncIterable<PublishItem>
}

export function createPublisher(
  deps: {
    policy: SharePolicy
    table: NarInfoTable
    spool: Spool
    index: LeafIndex
    store: LocalStore | undefined
  },
  config: { storeDir: string },
): Publisher {
  const { policy, table, spool, index, store } = deps

  async function plan(candidate: Candidate, options: CallOptions): Promise<NarPlan> {
    const { info, stream } = candidate
    if (candidate.inStore && store !== undefined) {
      return checked(await planNar(store.readNar(info.storePath, undefined, options)), candidate)
    }
    if (spool.has(info.narHash)) {
      const whole = { start: 0, end: info.narSize }
      return checked(await planNar(spool.read(info.narHash, whole, options)), candidate)
    }
    if (stream === undefined) throw new PublishError(`${info.storePath}: its cache offers no bytes of it`)
    try {
      return await receive(candidate, stream, options)
    } catch (error) {
      if (error instanceof PublishError) throw error
      const reason = messageOf(error)
      throw new PublishError(`${info.storePath}: ${reason}`, { cause: error })
    }
  }

  /** Bytes of strangers: what we put our name to must be a NAR, not only hash to what was signed. */
  async function receive(candidate: Candidate, stream: StreamSource, options: CallOptions): Promise<NarPlan> {
    const { info } = candidate
    const planner = createPlanner()
    const reader = createNarReader({ narSize: info.narSize })
    const file = await spool.create(info)
    const resumed = file.prefix
    try {
      // What an earlier call left counts only as far as it is looked at anew.
      if (resumed > 0) {
        for await (const bytes of file.read({ start: 0, end: resumed }, options)) {
          reader.push(bytes)
          planner.update(bytes)
        }
      }
      for await (const bytes of stream.open(info, resumed, options)) {
        reader.push(bytes)
        const written = file.append(bytes)
        planner.update(bytes)
        await written
      }
      reader.end()
      const done = checked(planner.finish(), candidate)
      await file.commit()
      return done
    } catch (error) {
      await file.abandon(error instanceof Error ? error : new Error(String(error)))
      // The fault may be in the old part; the next try begins at 0.
      if (resumed === 0 || options.signal.aborted) throw error
      return receive(candidate, stream, options)
    }
  }

  function entryOf(info: VerifiedNarInfo, done: NarPlan): MappingEntry {
    const { storePath, narHash, narSize, references, signatures } = info
    return {
      kind: 'mapping',
      storePath,
      narHash,
      narSize,
      references,
      signatures: signatures.slice(0, FEED_ENTRY_MAX_SIGNATURES),
      cid: done.root,
    }
  }

  /** @returns why it must not be published */
  function refusal(candidate: Candidate): VerifiedNarInfo | string {
    try {
      return policy.verify(candidate.info)
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error
      return error.message
    }
  }

  return {
    async *publish(candidates, { feed, dryRun }, options) {
      let batch: MappingEntry[] = []
      const flush = async (): Promise<void> => {
        const entries = batch
        batch = []
        if (entries.length > 0) await feed.append(entries, options)
      }
      try {
        for (const candidate of candidates) {
          const { storePath, narSize } = candidate.info
          const info = refusal(candidate)
          if (typeof info === 'string') {
            yield { path: storePath, narSize, outcome: 'skipped', reason: info }
            continue
          }
          if (dryRun) {
            yield { path: storePath, narSize, outcome: 'would-publish' }
            continue
          }
          const done = await plan(candidate, options)
          const entry = entryOf(info, done)
          try {
            formatEntry(entry, config.storeDir)
          } catch (error) {
            if (!(error instanceof EntryTooLargeError)) throw error
            yield { path: storePath, narSize, outcome: 'skipped', reason: error.message }
            continue
          }
          // What was told to others must stay.
          if (!candidate.inStore) spool.pin(info.narHash)
          index.put(done, {
            shared: true,
            inSpool: !candidate.inStore,
            ...(candidate.inStore ? { storePath } : {}),
          })
          table.put({ ...info, cid: done.root.toString() })
          batch.push(entry)
          if (batch.length >= PUBLISH_BATCH_COUNT) await flush()
          yield { path: storePath, narSize, outcome: 'published', cid: done.root.toString() }
        }
      } finally {
        // Of what was told as published, also when a later path fails or nobody listens any more.
        await flush()
      }
    },
  }
}

function checked(plan: NarPlan, { info }: Candidate): NarPlan {
  if (plan.narHash === info.narHash && plan.narSize === info.narSize) return plan
  throw new PublishError(
    `${info.storePath}: expected a NAR of ${info.narSize} bytes with hash ${info.narHash}, got ${plan.narSize} bytes with ${plan.narHash}`,
  )
}
