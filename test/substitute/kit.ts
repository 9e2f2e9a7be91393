import { setTimeout as sleep } from 'node:timers/promises'
import type { TestContext } from 'node:test'
import type { CID } from 'multiformats/cid'
import { rawCid, sha256 } from '../../src/dag/cid.ts'
import type { NarPlan } from '../../src/dag/planner.ts'
import { leafCount } from '../../src/dag/profile.ts'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { trustedKeys } from '../../src/nix/key.ts'
import type { SecretKey } from '../../src/nix/key.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { splitName } from '../../src/nix/package-name.ts'
import { encodeNix32 } from '../../src/nix/nix32.ts'
import { sign } from '../../src/nix/signature.ts'
import { hashPartOf, nameOf, parseStorePathBaseName } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { COST, SourceFaultError, SourceMissError } from '../../src/source.ts'
import type { BlockSource, Cost, NarInfoCandidate, NarInfoSource, StreamSource } from '../../src/source.ts'
import { openLeafIndex } from '../../src/spool/leaf-index.ts'
import { createLocalBlocks } from '../../src/spool/local-blocks.ts'
import type { SpoolDeps } from '../../src/spool/spool.ts'
import { StorePathNotValidError } from '../../src/store/errors.ts'
import type { LocalStore } from '../../src/store/local-store.ts'
import { createNarInfoTable } from '../../src/substitute/narinfo-table.ts'
import { createOlderLeaves } from '../../src/substitute/older-leaves.ts'
import type { OlderLeaves } from '../../src/substitute/older-leaves.ts'
import { createPolicy } from '../../src/substitute/policy.ts'
import { createResolver } from '../../src/substitute/resolve.ts'
import type { Rewriting } from '../../src/substitute/rewriting.ts'
import { createScores } from '../../src/substitute/scores.ts'
import type { Scores } from '../../src/substitute/scores.ts'
import { createTransfers } from '../../src/substitute/transfers.ts'
import { createNeighbourSources } from '../../src/swarm/neighbour-sources.ts'
import type { Neighbours } from '../../src/swarm/neighbours.ts'
import type { RelayFinder } from '../../src/swarm/relay-finder.ts'
import { createXzThreads } from '../../src/upstream/xz-threads.ts'
import type { AlongFinder } from '../../src/swarm/along-finder.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { sampleKey } from '../nix/sample.ts'
import { neighboursOf } from '../swarm/near.ts'
import { leafOf, planOf, spoolBench } from '../spool/kit.ts'

export const signer = sampleKey('signer-1', 1)
export const KIB = 1024
export const MIB = 1024 * KIB

/** A store path of its own for each name. */
export function pathNamed(name: string): StorePath {
  return parseStorePathBaseName(`${encodeNix32(sha256(Buffer.from(name)).subarray(0, 20))}-${name}`)
}

export function signed(info: NarInfo, ...keys: readonly SecretKey[]): NarInfo {
  const signatures = keys.map((key) => sign(key, fingerprint(info, STORE_DIR)))
  return { ...info, signatures: [...info.signatures, ...signatures] }
}

/** What an upstream says of these bytes, signed by `signer-1`. */
export function narInfoOf(plan: Pick<NarPlan, 'narHash' | 'narSize'>, name = 'package-1.0'): NarInfo {
  const { narHash, narSize } = plan
  return signed(
    {
      storePath: pathNamed(name),
      url: `nar/${name}.nar.xz`,
      compression: 'xz',
      narHash,
      narSize,
      references: [pathNamed('glibc-2.40')],
      signatures: [],
    },
    signer,
  )
}

/** All blocks of some NARs by their CIDs. */
export function blocksOf(...nars: readonly Uint8Array[]): Map<string, Uint8Array> {
  const blocks = new Map<string, Uint8Array>()
  for (const bytes of nars) {
    const plan = planOf(bytes)
    for (const node of plan.nodes) blocks.set(node.cid.toString(), node.bytes)
    for (let i = 0; i < leafCount(bytes.length); i++) {
      blocks.set(rawCid(plan.leaves.subarray(i * 32, i * 32 + 32)).toString(), leafOf(bytes, i))
    }
  }
  return blocks
}

/** Settles never by itself, as a request to a silent host: rejects when it is aborted. */
export function silence(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}

export interface Peer extends BlockSource {
  /** CIDs in the order they were asked for. */
  readonly asked: string[]
  /** Bytes given. */
  readonly given: () => number
  readonly underWay: () => number
  readonly mostUnderWay: () => number
}

/** A peer that has these blocks, and a fault if `answer` gives it one. */
export function peer(
  id: string,
  blocks: ReadonlyMap<string, Uint8Array>,
  answer: (
    block: Uint8Array,
    call: { cid: CID; count: number; signal: AbortSignal },
  ) => Uint8Array | Promise<Uint8Array> = (block) => block,
  cost: Cost = COST.peer,
): Peer {
  const asked: string[] = []
  let given = 0
  let underWay = 0
  let most = 0
  return {
    id,
    cost,
    asked,
    given: () => given,
    underWay: () => underWay,
    mostUnderWay: () => most,
    async fetch({ cid, maxBytes, into }, { signal }) {
      asked.push(cid.toString())
      const count = asked.length
      underWay += 1
      most = Math.max(most, underWay)
      try {
        await sleep(0, undefined, { signal })
        const block = blocks.get(cid.toString())
        if (block === undefined) throw new SourceMissError(id, `${id} does not have ${cid.toString()}`)
        const bytes = await answer(block, { cid, count, signal })
        signal.throwIfAborted()
        if (bytes.length > maxBytes) throw new Error(`test peer ${id}: ${bytes.length} bytes above the cap`)
        given += bytes.length
        if (into === undefined) return bytes
        // As the gateway does: what is lent is used again, so that a leaf read too late is seen to be wrong.
        into.set(bytes)
        return into.subarray(0, bytes.length)
      } finally {
        underWay -= 1
      }
    },
  }
}

export function flipped(block: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(block)
  bytes[bytes.length >> 1]! ^= 1
  return bytes
}

export interface TestStream extends StreamSource {
  /** Offsets at which it was opened. */
  readonly opened: number[]
  readonly underWay: () => number
}

/** Gives `bytes` in chunks; `fault` may throw or wait before any of them. */
export function stream(
  id: string,
  bytes: Uint8Array,
  fault: (at: number, signal: AbortSignal) => void | Promise<void> = () => {},
  { cost = COST.upstream, chunk = 64 * KIB }: { cost?: Cost; chunk?: number } = {},
): TestStream {
  const opened: number[] = []
  let underWay = 0
  return {
    id,
    cost,
    opened,
    underWay: () => underWay,
    async *open(_, from, { signal }) {
      opened.push(from)
      underWay += 1
      try {
        for (let at = from; at < bytes.length; at += chunk) {
          await sleep(0, undefined, { signal })
          await fault(at, signal)
          yield bytes.subarray(at, at + chunk)
        }
        await fault(bytes.length, signal)
      } finally {
        underWay -= 1
      }
    },
  }
}

/** A stream's fault that kills the connection at byte `at`, so many times. */
export function diesAt(id: string, at: number, times = Infinity): (byte: number) => void {
  return (byte) => {
    if (byte < at || times-- <= 0) return
    throw new SourceFaultError(id, `${id}: connection reset`)
  }
}

export interface TestSource extends NarInfoSource {
  asked: number
}

export function tells(
  id: string,
  cost: Cost,
  tell: Partial<NarInfoCandidate> | ((signal: AbortSignal) => Promise<Partial<NarInfoCandidate> | undefined>),
): TestSource {
  return {
    id,
    cost,
    asked: 0,
    async lookup(hashPart, { signal }) {
      this.asked += 1
      const told = typeof tell === 'function' ? await tell(signal) : tell
      if (told?.info === undefined) return undefined
      if (typeof tell !== 'function' && hashPartOf(told.info.storePath) !== hashPart) return undefined
      return { from: id, ...told, info: told.info }
    },
  }
}

export const testPolicy = createPolicy({
  keys: trustedKeys([signer.publicKey]),
  threshold: 1,
  storeDir: STORE_DIR,
})

/** The whole engine over a real spool, a real database and the given sources. */
/** A slower day: that a busy machine let somebody wait for a moment is no reason to turn to another source. */
export const patientClock = (): number => Math.round(Date.now() / 5)

export async function engine(
  t: TestContext,
  parts: {
    sources?: NarInfoSource[]
    peers?: BlockSource[]
    store?: LocalStore
    rewriting?: Rewriting
    /** Older NARs that Nix has here, newest first, as far as the index knows them. */
    older?: readonly NarInfo[]
    spool?: Partial<SpoolDeps>
    shareable?: boolean
    neighbours?: Neighbours
    along?: (scores: Scores) => AlongFinder
    relays?: Pick<RelayFinder, 'relays' | 'find'>
    clock?: () => number
  },
) {
  const {
    peers: blockSources = [],
    store,
    rewriting,
    sources = [],
    shareable = false,
    clock = Date.now,
  } = parts
  const bench = await spoolBench(t, parts.spool)
  const { spool, db, log } = bench
  const index = openLeafIndex(db)
  const blocks = createLocalBlocks({ index, spool, log, ...(store === undefined ? {} : { store }) })
  const table = createNarInfoTable({ db, clock, log }, { storeDir: STORE_DIR })
  const near = createNeighbourSources(
    {
      neighbours: parts.neighbours ?? neighboursOf(),
      forgiven: (id) => scores.forgiven(id),
      xzThreads: createXzThreads(),
      clock,
      random: () => 0.5,
      log,
    },
    { storeDir: STORE_DIR },
  )
  t.after(() => near.close())
  const resolver = createResolver({
    policy: testPolicy,
    table,
    sources,
    neighbours: () => near.narInfos(),
    forged: (from, reason) => near.verdicts.lied(from, reason),
    log,
  })
  const scores = createScores({ clock, listener: near.verdicts })
  const along = parts.along?.(scores)
  const badRoots: string[] = []
  const transfers = createTransfers({
    resolver,
    spool,
    index,
    blocks,
    store,
    blockSources: () => [...near.blocks(), ...blockSources],
    rewriting,
    olderLeaves:
      parts.older === undefined
        ? undefined
        : olderLeavesOf(parts.older, { index, blocks, mayName: () => true, log }),
    scores,
    clock,
    log,
    shareable: () => shareable,
    along: () => along,
    relays: () => parts.relays,
    badRoot(_, way) {
      badRoots.push(way.kind === 'blocks' ? way.root.toString() : way.source.id)
      if (way.kind === 'blocks') near.verdicts.lied(way.told, 'told a wrong CID')
    },
  })
  t.after(() => transfers.close())
  return { ...bench, index, blocks, table, resolver, scores, badRoots, transfers, sources }
}

/** What a store with these paths would give. */
export function olderLeavesOf(
  infos: readonly NarInfo[],
  deps: Omit<Parameters<typeof createOlderLeaves>[0], 'store' | 'names'> &
    Partial<Pick<LocalStore, 'readNarInto'>>,
): OlderLeaves {
  return createOlderLeaves({
    ...deps,
    store: {
      readNarInto: deps.readNarInto ?? ((path) => Promise.reject(new StorePathNotValidError(path))),
      pathInfo(hashPart) {
        const info = infos.find(({ storePath }) => hashPartOf(storePath) === hashPart)
        if (info === undefined) return undefined
        const { storePath, narHash, narSize, references, signatures } = info
        const rest = { ultimate: false, registeredAt: 0 }
        return { storePath, narHash, narSize, references, signatures, ...rest }
      },
    },
    names: {
      samePackage: (packageName, max) =>
        infos
          .map(({ storePath }) => storePath)
          .filter((path) => splitName(nameOf(path)).packageName === packageName)
          .slice(0, max),
    },
  })
}

export type Engine = Awaited<ReturnType<typeof engine>>

/** Timers that would keep the process alive. */
export function timersAlive(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
}

/** Until `condition` holds. @throws after ten seconds: a test that fails must end, too */
export async function until(condition: () => boolean): Promise<void> {
  for (const begun = Date.now(); !condition(); await sleep(5)) {
    if (Date.now() - begun > 10_000) throw new Error(`not so within ten seconds: ${condition.toString()}`)
  }
}
