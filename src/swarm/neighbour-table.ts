import {
  NEIGHBOUR_LIE_OUT_MS,
  NEIGHBOUR_PROBE_MS,
  NEIGHBOUR_REASON_MAX_CHARS,
  NEIGHBOUR_REST_CEILING_MS,
  NEIGHBOUR_REST_FLOOR_MS,
  NEIGHBOUR_SEEN_MS,
  NEIGHBOURS_CURRENT_MAX_COUNT,
  NEIGHBOURS_MAX_COUNT,
  NEIGHBOURS_PER_HOST_COUNT,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { BestEffort } from '../state/best-effort.ts'
import { createEntry, fromOf, hasCache, rowOf, urlOf } from './neighbour-entry.ts'
import type { Entry } from './neighbour-entry.ts'
import type { NamedNeighbour } from './neighbour-id.ts'
import { cacheId, isNarswarmId, narswarmId, withSlash } from './neighbour-id.ts'
import { reportOf } from './neighbour-report.ts'
import type { NeighbourReport } from './neighbour-report.ts'
import type { NeighbourRow, NeighbourRows } from './neighbour-rows.ts'
import type { Neighbour, NeighbourId, Neighbours } from './neighbours.ts'
import { peerIdIn } from './peer-address.ts'

export type ProbeOutcome =
  | (Pick<Neighbour, 'kind' | 'hasCache' | 'knowsDifferences' | 'isRelay'> & { readonly latencyMs: number })
  | { readonly error: string }

export interface NeighbourTable extends Neighbours {
  /** Of this machine; undefined until its libp2p node has been started. */
  readonly ownId: NeighbourId | undefined
  /** All that are known, those banned included. */
  list(): NeighbourReport[]
  /** A narswarm at `url` has proved its peer id. Nothing is asked of it before a probe has come back. */
  found(peer: { readonly peerId: string; readonly url: URL }): void
  /** @throws when the state database takes no rows */
  add(named: NamedNeighbour): void
  /** What `add` did, or what was found; one that the configuration names stays. */
  remove(named: NamedNeighbour): 'removed' | 'unknown' | 'configured'
  /** Until `unban`, over restarts; a URL bans whoever is there. @throws when the state database takes no rows */
  ban(named: NamedNeighbour, reason: string): void
  /** Takes away a ban, or that it gave wrong bytes. @returns whether there was one */
  unban(named: NamedNeighbour): boolean
  /** Multiaddrs of those that were named by one and may be dialled. */
  named(): string[]
  /** Those that are to be probed now. */
  due(): { readonly id: NeighbourId; readonly url: URL }[]
  /** Milliseconds until `due` has more to say. */
  dueInMs(): number
  probed(id: NeighbourId, url: URL, outcome: ProbeOutcome): void
}

export interface NeighbourTableConfig {
  readonly urls: readonly URL[]
  readonly addrs: readonly string[]
  /** Whether those that were found are used, or only those that were named. */
  readonly useFound: boolean
}

/**
 * @param deps.clock the wall clock, for what outlives the process; `stopwatch` never jumps
 * @param deps.ownId told apart when it is heard of on the network
 */
export function createNeighbourTable(
  deps: {
    readonly rows: NeighbourRows
    readonly bestEffort: BestEffort
    readonly clock: () => number
    readonly stopwatch: () => number
    readonly ownId: () => NeighbourId | undefined
    readonly log: Log
  },
  config: NeighbourTableConfig,
): NeighbourTable {
  const { rows, bestEffort, clock, stopwatch, log } = deps
  const entries = new Map<NeighbourId, Entry>()
  const listeners = new Set<() => void>()
  let cached: { readonly list: readonly Neighbour[]; readonly until: number } | undefined

  const changed = (): void => {
    cached = undefined
    for (const listener of listeners) listener()
  }
  const save = (entry: Entry): void => {
    entry.savedSeen = entry.seen
    rows.put(rowOf(entry))
  }
  const remember = (entry: Entry): void => {
    bestEffort(() => save(entry))
  }
  const drop = (entry: Entry): void => {
    entries.delete(entry.id)
    bestEffort(() => rows.delete(entry.id))
  }

  const isNamed = ({ configured, added }: Entry): boolean => configured || added
  /** By its URL alone, too, though it was found and has a peer id. Nobody else is told what is wanted and what is here of it. */
  const isRelay = ({ isRelay: saysSo, configured, added, url }: Entry): boolean =>
    saysSo &&
    (configured || added || [...entries.values()].some((one) => isNamed(one) && one.url?.href === url?.href))
  const isOut = ({ lie }: Entry): boolean => lie !== undefined && lie.until > clock()
  const banOf = (entry: Entry): NeighbourRow['ban'] =>
    entry.ban ?? (entry.url === undefined ? undefined : entries.get(cacheId(entry.url))?.ban)
  /** A cache that nobody names any more is in the table for its ban alone. */
  const isWanted = (entry: Entry): boolean => isNamed(entry) || (config.useFound && isNarswarmId(entry.id))
  const mayBeAsked = (entry: Entry): boolean =>
    isWanted(entry) && banOf(entry) === undefined && !isOut(entry) && entry.id !== deps.ownId()

  const create = (id: NeighbourId, known: Partial<Entry>): Entry => {
    const entry = createEntry(id, clock(), known)
    entries.set(id, entry)
    return entry
  }

  const saw = (entry: Entry): void => {
    entry.seen = clock()
    if (entry.savedSeen === undefined || entry.seen - entry.savedSeen >= NEIGHBOUR_SEEN_MS) remember(entry)
  }
  const rest = (entry: Entry, reason: string): void => {
    const restMs = Math.min(NEIGHBOUR_REST_CEILING_MS, NEIGHBOUR_REST_FLOOR_MS * 2 ** entry.inARow)
    const isNews = entry.contact !== 'resting'
    entry.inARow += 1
    entry.probeAt = stopwatch() + restMs
    entry.contact = 'resting'
    entry.reason = cut(reason)
    if (!isNews) return
    log.info({ neighbour: entry.id, reason: entry.reason }, 'a neighbour does not answer and is left alone')
    changed()
  }
  const isFine = (entry: Entry): void => {
    const isNews = entry.contact !== 'ok'
    entry.contact = 'ok'
    entry.reason = undefined
    entry.probeAt = stopwatch() + NEIGHBOUR_PROBE_MS
    saw(entry)
    if (isNews) changed()
  }

  /**
   * For one that was found at `url`. Peer ids cost nothing, so of those that were only found there are few at one address, and
   * not too many in all; who gave wrong bytes is forgotten last.
   *
   * @returns whether there is any
   */
  const makeRoom = (url: URL): boolean => {
    const found = (): Entry[] =>
      [...entries.values()]
        .filter((entry) => !isNamed(entry) && entry.ban === undefined)
        .sort((a, b) => Number(isOut(a)) - Number(isOut(b)) || (a.seen ?? a.since) - (b.seen ?? b.since))
    const atHost = found().filter((entry) => entry.url?.hostname === url.hostname)
    const [oldest] = atHost
    if (atHost.length >= NEIGHBOURS_PER_HOST_COUNT && oldest !== undefined) {
      if (isOut(oldest)) return false
      drop(oldest)
    }
    const tooMany = entries.size - (NEIGHBOURS_MAX_COUNT - 1)
    for (const entry of found().slice(0, Math.max(0, tooMany))) drop(entry)
    return entries.size < NEIGHBOURS_MAX_COUNT
  }

  /** Set up anew, it has another id; two cannot listen at one address. */
  const dropOthersAt = (url: URL, id: NeighbourId): void => {
    for (const entry of entries.values()) {
      const isThere = entry.id !== id && isNarswarmId(entry.id) && entry.url?.href === url.href
      if (isThere && !isNamed(entry) && entry.ban === undefined && !isOut(entry)) drop(entry)
    }
  }

  const load = (): void => {
    const configured = new Map<NeighbourId, Pick<Entry, 'url' | 'addr'>>()
    for (const url of config.urls.map(withSlash)) configured.set(cacheId(url), { url, addr: undefined })
    for (const addr of config.addrs) configured.set(narswarmId(peerIdIn(addr)), { url: undefined, addr })
    for (const row of rows.all()) {
      const known = configured.get(row.id)
      const entry = create(row.id, {
        ...row,
        url: urlOf(row),
        savedSeen: row.seen,
        ...(known === undefined ? {} : { configured: true, url: known.url ?? urlOf(row), addr: known.addr }),
      })
      const isEmpty = !isNamed(entry) && !isNarswarmId(row.id)
      if (isEmpty && entry.ban === undefined && !isOut(entry)) drop(entry)
    }
    for (const [id, known] of configured) if (!entries.has(id)) create(id, { configured: true, ...known })
  }

  /** All that `ban` and `unban` mean: the one of that name, and for a URL those who are there. */
  const meant = (named: NamedNeighbour): Entry[] => {
    const one = entries.get(named.id)
    if (named.kind === 'narswarm') return one === undefined ? [] : [one]
    return [...entries.values()].filter((entry) => entry === one || entry.url?.href === named.url.href)
  }

  load()

  const compute = (): { list: readonly Neighbour[]; until: number } => {
    const usable = [...entries.values()].filter(
      (entry) =>
        mayBeAsked(entry) && (entry.contact === 'ok' || (entry.contact === 'unknown' && isNamed(entry))),
    )
    // One that was named by its URL and found by its peer id is one: by its id it is known who that is.
    const proved = new Set(usable.filter(({ id }) => isNarswarmId(id)).map((entry) => entry.url?.href))
    const list = usable
      .filter((entry) => isNarswarmId(entry.id) || !proved.has(entry.url?.href))
      .sort((a, b) => Number(isNamed(b)) - Number(isNamed(a)))
      .flatMap((entry) => {
        const { id, kind, url, knowsDifferences } = entry
        const found = { id, kind, hasCache: hasCache(entry), from: fromOf(entry), knowsDifferences }
        return url === undefined ? [] : [{ ...found, url, ...(isRelay(entry) ? { isRelay: true } : {}) }]
      })
    const lies = [...entries.values()].flatMap(({ lie }) => (lie === undefined ? [] : [lie.until]))
    return {
      list: list.slice(0, NEIGHBOURS_CURRENT_MAX_COUNT),
      until: Math.min(...lies.filter((until) => until > clock())),
    }
  }

  return {
    get ownId() {
      return deps.ownId()
    },
    current() {
      if (cached === undefined || cached.until <= clock()) cached = compute()
      return cached.list
    },
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    answered(id) {
      const entry = entries.get(id)
      if (entry === undefined) return
      entry.inARow = 0
      isFine(entry)
    },
    failed(id, reason) {
      const entry = entries.get(id)
      // Of all that was under way when it failed only the first counts.
      if (entry !== undefined && entry.contact !== 'resting') rest(entry, reason)
    },
    lied(id, reason) {
      const entry = entries.get(id)
      if (entry === undefined || isOut(entry)) return
      entry.lie = { until: clock() + NEIGHBOUR_LIE_OUT_MS, reason: cut(reason) }
      log.warn(
        { neighbour: id, reason: entry.lie.reason },
        'a neighbour gave wrong bytes and is out for a day',
      )
      remember(entry)
      changed()
    },

    list: () =>
      [...entries.values()].map((entry) =>
        reportOf(entry, {
          ban: banOf(entry),
          isOut: isOut(entry),
          isRelay: isRelay(entry),
          clock,
          stopwatch,
        }),
      ),
    found({ peerId, url: told }) {
      const id = narswarmId(peerId)
      const url = withSlash(told)
      const known = entries.get(id)
      if (id === deps.ownId() || (known !== undefined && banOf(known) !== undefined)) return
      dropOthersAt(url, id)
      if (known === undefined && !makeRoom(url)) return
      const entry = known ?? create(id, {})
      const hasMoved = entry.url?.href !== url.href
      if (!hasMoved && entry.contact === 'ok') {
        saw(entry)
        return
      }
      entry.url = url
      entry.inARow = 0
      entry.probeAt = 0
      if (hasMoved) entry.contact = 'unknown'
      saw(entry)
      if (hasMoved) {
        remember(entry)
        log.info({ neighbour: id, url: url.href }, 'a neighbour was found')
      }
      changed()
    },
    add(named) {
      const entry = entries.get(named.id) ?? create(named.id, {})
      entry.added = true
      if (named.kind === 'cache') entry.url = named.url
      else entry.addr = named.addr ?? entry.addr
      entry.probeAt = 0
      save(entry)
      changed()
    },
    remove(named) {
      const entry = entries.get(named.id)
      if (entry === undefined) return 'unknown'
      if (entry.configured) return 'configured'
      drop(entry)
      changed()
      return 'removed'
    },
    ban(named, reason) {
      const ban = { at: clock(), reason: cut(reason) }
      if (!entries.has(named.id)) create(named.id, named.kind === 'cache' ? { url: named.url } : {})
      for (const entry of meant(named)) {
        entry.ban = ban
        save(entry)
      }
      changed()
    },
    unban(named) {
      const out = meant(named).filter((entry) => entry.ban !== undefined || isOut(entry))
      for (const entry of out) {
        entry.ban = undefined
        entry.lie = undefined
        entry.contact = 'unknown'
        entry.probeAt = 0
        if (isWanted(entry)) save(entry)
        else drop(entry)
      }
      if (out.length > 0) changed()
      return out.length > 0
    },
    named: () =>
      [...entries.values()].flatMap((entry) =>
        entry.addr === undefined || !isNamed(entry) || !mayBeAsked(entry) ? [] : [entry.addr],
      ),

    due: () =>
      [...entries.values()].flatMap((entry) => {
        const { id, url, probeAt } = entry
        return url !== undefined && mayBeAsked(entry) && probeAt <= stopwatch() ? [{ id, url }] : []
      }),
    dueInMs() {
      const next = [...entries.values()]
        .filter((entry) => entry.url !== undefined && mayBeAsked(entry))
        .map(({ probeAt }) => probeAt)
      return Math.max(0, Math.min(...next, stopwatch() + NEIGHBOUR_PROBE_MS) - stopwatch())
    },
    probed(id, url, outcome) {
      const entry = entries.get(id)
      // Moved, removed or banned meanwhile.
      if (entry === undefined || entry.url?.href !== url.href || !mayBeAsked(entry)) return
      if ('error' in outcome) {
        rest(entry, outcome.error)
        return
      }
      const { kind, knowsDifferences, latencyMs, isRelay: saysRelay = false } = outcome
      const before = hasCache(entry)
      const isKnown = entry.kind === kind && entry.knowsDifferences === knowsDifferences
      const wasRelay = entry.isRelay
      Object.assign(entry, {
        kind,
        hasCache: outcome.hasCache,
        knowsDifferences,
        latencyMs,
        isRelay: saysRelay,
      })
      const isOther = !isKnown || hasCache(entry) !== before
      const isNews = isOther || wasRelay !== saysRelay
      // Once is not enough: one that stalls on every NAR answers each probe.
      if (entry.contact === 'ok') entry.inARow = 0
      isFine(entry)
      if (isOther) remember(entry)
      if (isNews) changed()
    },
  }
}

function cut(reason: string): string {
  return reason.length <= NEIGHBOUR_REASON_MAX_CHARS
    ? reason
    : `${reason.slice(0, NEIGHBOUR_REASON_MAX_CHARS)}…`
}
