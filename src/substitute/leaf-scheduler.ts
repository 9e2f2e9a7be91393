/**
 * Leaves from several sources at once, each leaf asked of one of them, each checked here and nowhere else.
 *
 * Why our own: Helia's plain get downloads from every holder, its sessions hang when their peer dies, and its `cat`
 * has no back-pressure [ipfs-stack 2]. The rules: a window of leaves ahead of the oldest one missing, few in flight
 * at a source while there are others, a stall timer per leaf that asks the next source before the first is given up,
 * the last leaves doubled, a wrong leaf bans its source.
 */
import type { LeafBuffers } from '../dag/leaf-buffers.ts'
import { LEAF_BYTES } from '../dag/profile.ts'
import { checkLeaf, DagError } from '../dag/reader.ts'
import type { DagLink } from '../dag/reader.ts'
import {
  CODED_LEAF_MIN_BYTES,
  LEAF_HERE_STALL_FLOOR_MS,
  LEAF_IN_FLIGHT_PER_SOURCE_COUNT,
  LEAF_LATE_FLOOR_MS,
  LEAF_QUICK_MS,
  LEAF_SLOW_MS,
  LEAF_STALL_FACTOR,
  LEAF_STALL_FLOOR_MS,
  LEAF_WINDOW_COUNT,
  LEAF_WINDOW_START_COUNT,
} from '../limits.ts'
import type { BlockSource, CallOptions, SourceId } from '../source.ts'
import { COST, SourceFaultError, SourceMissError } from '../source.ts'
import { countedFetch } from './counted-fetch.ts'
import { BlockUnavailableError, WayStalledError } from './errors.ts'
import { createLeafHasher } from './leaf-hasher.ts'
import type { OldLeafAt } from './older-nar.ts'
import type { SourceRoster } from './roster.ts'

export interface Leaf {
  readonly link: DagLink
  /** Match the link's CID. Read, never written; with `buffers`, only until `release`. */
  readonly bytes: Uint8Array
  /** Whose answer it was. */
  readonly from: SourceId
  /** To be called once, when nobody reads the bytes any more. */
  release(): void
}

interface Result {
  readonly bytes: Uint8Array
  readonly from: SourceId
  /** In a buffer of ours, to be used again. */
  readonly lent: boolean
  /** Leaves of this content that were not released yet. */
  holders: number
}

/** One leaf under way. */
interface Slot {
  readonly link: DagLink
  /** Those that have been asked, whatever came of it, or need not be. */
  readonly asked: Set<BlockSource>
  readonly attempts: Map<BlockSource, AbortController>
  /** Slower than its source is as a rule: may be doubled when it is one of the last. */
  late: boolean
  stalled: boolean
  timer: NodeJS.Timeout | undefined
  result: Result | undefined
  /** Milliseconds that the source took whose answer it is; undefined when none elsewhere gave it. */
  tookMs: number | undefined
  failure: BlockUnavailableError | DagError | undefined
}

/**
 * Fetches the leaves of `links` and yields them in order.
 *
 * With `buffers` the leaves come in them, and each is used again once its leaf is released.
 *
 * Pull-driven: at most `share` and LEAF_WINDOW_COUNT leaves are in memory or under way, and no more are asked for until
 * the consumer takes one. From sources that nobody has measured it begins with few.
 *
 * @throws BlockUnavailableError when every source failed for a leaf; DagError when a leaf is genuine and not of the
 * size that the tree says, which is the fault of whoever told the root; whatever `links` throws
 */
export async function* fetchLeaves(
  links: AsyncIterator<DagLink>,
  roster: SourceRoster,
  options: CallOptions & {
    buffers?: LeafBuffers
    /** How many leaves we may have by now. */
    share?: () => number
    onBytes?: (count: number, from: BlockSource) => void
    oldLeafAt?: OldLeafAt | undefined
  },
): AsyncGenerator<Leaf, void, undefined> {
  const { signal, buffers, share = () => LEAF_WINDOW_COUNT, onBytes, oldLeafAt } = options
  let width = roster.isQuick() ? LEAF_WINDOW_COUNT : LEAF_WINDOW_START_COUNT
  const window: Slot[] = []
  let exhausted = false
  let wake: () => void = () => {}
  const onAbort = (): void => {
    for (const slot of window) for (const attempt of slot.attempts.values()) attempt.abort(signal.reason)
    wake()
  }
  signal.addEventListener('abort', onAbort, { once: true })

  const settle = (slot: Slot, result: Result): void => {
    slot.result = result
    result.holders += 1
    clearTimeout(slot.timer)
    for (const attempt of slot.attempts.values()) attempt.abort()
    slot.attempts.clear()
    wake()
  }

  /** Two timers in a row: late, then stalled. */
  const watch = (slot: Slot, source: BlockSource, onStall: () => void): void => {
    const averageMs = roster.averageMs(source) ?? 0
    const lateMs = Math.max(LEAF_LATE_FLOOR_MS, averageMs)
    const floorMs = source.cost === COST.local ? LEAF_HERE_STALL_FLOOR_MS : LEAF_STALL_FLOOR_MS
    const stallMs = Math.max(floorMs, LEAF_STALL_FACTOR * averageMs)
    clearTimeout(slot.timer)
    slot.timer = setTimeout(() => {
      slot.late = true
      slot.timer = setTimeout(() => {
        slot.stalled = true
        onStall()
        assign()
      }, stallMs - lateMs)
      assign()
    }, lateMs)
  }

  const ask = async (slot: Slot, source: BlockSource): Promise<void> => {
    const { link } = slot
    const attempt = new AbortController()
    let stalled = false
    slot.asked.add(source)
    slot.attempts.set(source, attempt)
    slot.late = false
    slot.stalled = false
    watch(slot, source, () => (stalled = true))
    const release = roster.started(source)
    const begun = roster.now()
    // Not the link's size: a root that lies about it must not make an honest source a liar.
    const into = buffers?.take()
    try {
      const hasher = into && createLeafHasher(into)
      const lending = into && hasher && { into, onPlaced: (count: number) => hasher.came(count) }
      // Smaller ones nobody codes.
      const isNamed = oldLeafAt !== undefined && link.size >= CODED_LEAF_MIN_BYTES
      const old = isNamed ? { old: (call: CallOptions) => oldLeafAt(link.offset, call) } : undefined
      const block = { cid: link.cid, maxBytes: LEAF_BYTES, offset: link.offset, ...lending, ...old }
      const { bytes, ...counts } = await countedFetch(source, block, {
        signal: attempt.signal,
        onBytes(count) {
          roster.heard(source)
          onBytes?.(count, source)
        },
      })
      const lent = bytes.buffer === into?.buffer
      if (into !== undefined && !lent) buffers?.give(into)
      if (slot.result !== undefined) return
      checkLeaf(link, bytes, hasher?.digestOf(bytes))
      release({ bytes: bytes.length, ...counts })
      if (source.cost !== COST.local) {
        slot.tookMs = roster.now() - begun
        adapt(slot.tookMs)
      }
      // Its own end is no abort: to make up a reason for each leaf costs as much as to send for it.
      slot.attempts.delete(source)
      settle(slot, { bytes, from: source.id, lent, holders: 0 })
    } catch (error) {
      // After any other error somebody may still write to it.
      if (into !== undefined && error instanceof SourceMissError) buffers?.give(into)
      if (slot.result !== undefined || attempt.signal.aborted) {
        if (stalled) release('stalled')
        else if (attempt.signal.reason instanceof WayStalledError) release('overtaken')
        else if (slot.tookMs !== undefined) release({ othersTookMs: slot.tookMs })
      } else if (error instanceof DagError && error.reason !== 'digest') {
        // No other leaf of such a tree may go out either.
        for (const one of window) one.failure = error
        wake()
      } else {
        release({ error })
        // Asked again until the roster puts it out: one lost answer is no reason to lose the source.
        if (error instanceof SourceFaultError) slot.asked.delete(source)
      }
    } finally {
      release()
      slot.attempts.delete(source)
      assign()
    }
  }

  /** On a slow line the first leaf must not share it with fifteen others: Nix waits for it. */
  const adapt = (tookMs: number): void => {
    if (tookMs < LEAF_QUICK_MS) width = Math.min(LEAF_WINDOW_COUNT, width + 1)
    else if (tookMs > LEAF_SLOW_MS) width = Math.max(LEAF_WINDOW_START_COUNT, width - 1)
  }

  /** Gives every leaf that waits a source, as far as there are any; then doubles the last ones. */
  const assign = (): void => {
    if (signal.aborted) return
    for (const slot of window) {
      if (slot.result !== undefined || slot.failure !== undefined) continue
      const waits = slot.attempts.size === 0
      if (!waits && !slot.stalled) continue
      const twin = window.find((one) => one !== slot && one.result !== undefined && sameLeaf(one, slot))
      if (twin?.result !== undefined) {
        settle(slot, twin.result)
        continue
      }
      // A NAR of zeros is one leaf many times: asked for once.
      if (waits && window.some((one) => one !== slot && one.attempts.size > 0 && sameLeaf(one, slot))) {
        continue
      }
      const source = roster.pick(slot.asked, capOf)
      if (source !== undefined) {
        void ask(slot, source)
      } else if (waits && !roster.anyLeft(slot.asked)) {
        slot.failure = new BlockUnavailableError(
          `no source has leaf ${slot.link.cid.toString()} at byte ${slot.link.offset}: ${roster.reasons()}`,
        )
        wake()
      }
    }
    if (exhausted) doubleTheLast()
  }

  /** A source that gave nothing right yet is asked for one leaf: that is all that it can cost to learn that it lies (P4). */
  const capOf = (isProven: boolean): number => {
    if (!isProven) return 1
    return roster.size() > 1 ? LEAF_IN_FLIGHT_PER_SOURCE_COUNT : LEAF_WINDOW_COUNT
  }

  /** With nothing left to ask for, an idle source takes the oldest leaf that is late elsewhere. */
  const doubleTheLast = (): void => {
    const oldest = window.find((slot) => slot.result === undefined && slot.late && slot.attempts.size === 1)
    if (oldest === undefined) return
    const idle = roster.pickIdle(oldest.asked)
    if (idle !== undefined) void ask(oldest, idle)
  }

  try {
    for (;;) {
      while (!exhausted && window.length < Math.min(width, share())) {
        const next = await links.next()
        if (next.done === true) exhausted = true
        else {
          const slot: Slot = {
            link: next.value,
            asked: new Set(roster.lacking(next.value.cid)),
            attempts: new Map(),
            late: false,
            stalled: false,
            timer: undefined,
            result: undefined,
            tookMs: undefined,
            failure: undefined,
          }
          window.push(slot)
          assign()
        }
      }
      const head = window[0]
      if (head === undefined) return
      while (head.result === undefined) {
        signal.throwIfAborted()
        if (head.failure !== undefined) throw head.failure
        await new Promise<void>((resolve) => {
          wake = resolve
          assign()
        })
      }
      if (head.failure !== undefined) throw head.failure
      // Twins of the head take its bytes before it leaves the window.
      for (const slot of window) {
        if (slot.result === undefined && sameLeaf(slot, head)) settle(slot, head.result)
      }
      window.shift()
      const { result } = head
      const release = (): void => {
        result.holders -= 1
        if (result.lent && result.holders === 0) buffers?.give(result.bytes)
      }
      yield { link: head.link, bytes: result.bytes, from: result.from, release }
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    // Emptied, for what is aborted here comes back to `assign`, which must find nothing to ask for.
    for (const slot of window.splice(0)) {
      clearTimeout(slot.timer)
      for (const attempt of slot.attempts.values()) attempt.abort()
    }
  }
}

/** With the size, since a hostile DAG may put one block where two sizes are due. */
function sameLeaf(a: Slot, b: Slot): boolean {
  return a.link.size === b.link.size && a.link.cid.equals(b.link.cid)
}
