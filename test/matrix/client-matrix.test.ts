/**
 * Each way in which a cache was seen to misbehave towards a real Nix (vectors/client-matrix.tsv), done to us: Nix gets a
 * good answer from us, or a 404 in time, and nothing else (nix-protocol 0).
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { createCacheApp } from '../../src/http/cache-app.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfoSource } from '../../src/source.ts'
import { createNarLister } from '../../src/substitute/list-nar.ts'
import { createGatewaySource } from '../../src/swarm/gateway-source.ts'
import { createHosts } from '../../src/upstream/host.ts'
import { createUpstream } from '../../src/upstream/upstream.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { createXzThreads } from '../../src/upstream/xz-threads.ts'
import { CACHE_CONFIG, serve } from '../http/kit.ts'
import { recordingLog } from '../kit/log.ts'
import { skipWithoutVectors, vectorsDir } from '../kit/vectors.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { engine, KIB, until } from '../substitute/kit.ts'
import { FAULTS } from './faults.ts'
import type { Fault } from './faults.ts'
import { serveFault } from './fault-server.ts'
import { takePath } from './nix-client.ts'
import type { Taken } from './nix-client.ts'
import { makePackage } from './package.ts'
import type { Package } from './package.ts'

interface Row {
  readonly id: string
  readonly meaning: string
  /** Whether each of the three clients had its path from such a cache alone. */
  readonly harmless: boolean
}

const rows = skipWithoutVectors() === false ? readRows(join(vectorsDir() ?? '', 'client-matrix.tsv')) : []

function readRows(file: string): Row[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  return lines
    .filter((line) => !line.startsWith('#') && !line.startsWith('mode\t'))
    .map((line) => {
      const [id = '', meaning = '', ...results] = line.split('\t')
      return { id, meaning, harmless: [0, 2, 4].every((alone) => results[alone] === 'ok') }
    })
}

/** As those that were measured: it is held back until it is proved. */
const small = makePackage(100 * KIB, 'xz')
/** Most of these are on their way to Nix before the NarHash can be proved. */
const large = makePackage(640 * KIB, 'xz')
const largePlain = makePackage(640 * KIB, 'none')
/** More than one leaf. */
const rooted = makePackage(1280 * KIB, 'xz', { cid: true })

const DEADLINES = { narInfoMs: 5_000, firstByteMs: 2_000, stallMs: 1_000 }
/** How long the good source keeps out of the way of the faulty one. */
const START_MS = 500

const log = recordingLog()
const xzThreads = createXzThreads()

/** A narswarm over these sources, in this process. */
async function narswarm(
  t: TestContext,
  parts: { upstreams: readonly Upstream[]; sources: NarInfoSource[]; peer?: URL },
): Promise<{ url: string; close(): Promise<void> }> {
  const { upstreams, sources, peer } = parts
  const peers = peer === undefined ? [] : [createGatewaySource({ url: peer.href.replace(/\/$/, '') })]
  const node = await engine(t, { sources, peers })
  const app = createCacheApp(
    {
      resolver: node.resolver,
      transfers: node.transfers,
      lister: createNarLister(node.transfers),
      upstreams,
      formatAnswer: (info) => formatNarInfo(info, STORE_DIR),
      status: async () => ({}),
      metrics: () => assert.fail('no Nix asks for metrics'),
      notReady: () => undefined,
      page: () => ({ profile: 'private', upstreams: [], trustedKeys: [], facts: [] }),
      log: node.log,
    },
    CACHE_CONFIG,
  )
  const { port } = await serve(t, app)
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      await Promise.all([...upstreams, ...peers].map((one) => one.close()))
      await until(() => node.transfers.running() === 0)
    },
  }
}

async function upstreamAt(url: URL): Promise<Upstream> {
  // Of its own: a breaker that one row opens is not the next one's.
  const hosts = createHosts({ log, clock: () => performance.now(), random: Math.random })
  const upstream = createUpstream(
    { url, storeDir: STORE_DIR, deadlines: DEADLINES },
    { log, hosts, xzThreads },
  )
  // As at start; what it finds is used by the look-ups.
  await upstream.cacheInfo({ signal: AbortSignal.timeout(10_000) }).catch(() => {})
  return upstream
}

/** The second one is asked when the first has answered, or had its time: else it might be the only one asked. */
function inOrder(first: NarInfoSource, second: NarInfoSource): NarInfoSource[] {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>()
  return [
    {
      ...first,
      async lookup(...call) {
        setTimeout(open, START_MS)
        return first.lookup(...call).finally(open)
      },
    },
    {
      ...second,
      async lookup(...call) {
        await gate
        return second.lookup(...call)
      },
    },
  ]
}

async function alone(t: TestContext, pkg: Package, fault: Fault): Promise<Taken> {
  const bad = await serveFault(t, pkg, fault)
  const upstream = await upstreamAt(bad.url)
  const node = await narswarm(t, { upstreams: [upstream], sources: [upstream] })
  try {
    return await takePath(node.url, pkg)
  } finally {
    await node.close()
  }
}

/** @returns what Nix got, and what it gets when it asks once more if that was nothing */
async function besideUpstream(t: TestContext, pkg: Package, fault: Fault): Promise<Taken[]> {
  const bad = await serveFault(t, pkg, fault)
  const good = await serveFault(t, pkg, {})
  const upstreams = [await upstreamAt(bad.url), await upstreamAt(good.url)] as const
  const node = await narswarm(t, { upstreams, sources: inOrder(...upstreams) })
  try {
    const taken = await takePath(node.url, pkg)
    for (const kind of ['cacheInfo', 'narInfo', 'nar'] as const) {
      if (fault[kind] !== undefined) assert.ok(bad.asked[kind] > 0, `its ${kind} was never asked for`)
    }
    return taken.narRequests === 1 ? [taken] : [taken, await takePath(node.url, pkg)]
  } finally {
    await node.close()
  }
}

async function asPeer(t: TestContext, pkg: Package, fault: Fault): Promise<Taken> {
  const bad = await serveFault(t, pkg, fault)
  const good = await serveFault(t, pkg, {})
  const upstream = await upstreamAt(good.url)
  const node = await narswarm(t, { upstreams: [upstream], sources: [upstream], peer: bad.url })
  try {
    const taken = await takePath(node.url, pkg)
    assert.ok(bad.asked.nar > 0, 'it was never asked')
    return taken
  } finally {
    await node.close()
  }
}

/** Harmless to Nix itself; from us a 404 in time, so its next substituter's turn. */
const MISSES: ReadonlyMap<string, string> = new Map([
  ['ihtml', 'a page with status 200 is what a captive portal has for everything'],
  ['ndotdot', 'a URL that leads up is not followed on behalf of others'],
  ['rdrip', 'what is held back until it is proved would take longer than we let Nix wait'],
])
/**
 * Without a DAG wrong bytes are known by their NarHash alone, when those of a large NAR are on their way. Nix is shown a
 * cut, and has the right ones the next time (P1, P4).
 */
const KNOWN_LATE: ReadonlySet<string> = new Set(['rcorrupt', 'rotherbody'])
/** Above what is held back it goes on as slowly as it comes, for hours, as it does without us. */
const ENDLESS = 'rdrip'
const WAITS = /drip|stall|slow/

const ONE_REQUEST: Taken = { outcome: 'whole', narRequests: 1 }

describe('what a cache did to Nix, done to us', { skip: skipWithoutVectors(), concurrency: 4 }, () => {
  it('is every row of client-matrix.tsv', () => {
    assert.equal(rows.length, 106)
    assert.deepEqual([...FAULTS.keys()].sort(), rows.map(({ id }) => id).sort())
  })

  // Those that wait go first, beside the others.
  const byWaiting = (a: Row, b: Row): number => Number(WAITS.test(b.id)) - Number(WAITS.test(a.id))
  for (const { id, meaning, harmless } of rows.toSorted(byWaiting)) {
    const fault = FAULTS.get(id)
    if (fault === undefined) continue
    it(`${id}: ${meaning}`, { concurrency: true }, async (t) => {
      const onLarge = { large, 'large plain': largePlain }
      const packages = { small, ...(fault.nar === undefined ? {} : onLarge) }
      const variants = Object.entries(packages).flatMap(([title, pkg]) => [
        t.test(`${title}, alone`, { skip: id === ENDLESS && pkg !== small }, async (t) => {
          const { outcome } = await alone(t, pkg, fault)
          if (harmless && !MISSES.has(id)) assert.equal(outcome, 'whole')
          // All of it was held back.
          if (pkg === small) assert.notEqual(outcome, 'cut')
        }),
        t.test(`${title}, beside a healthy one`, async (t) => {
          const [first, second] = await besideUpstream(t, pkg, fault)
          const late = pkg !== small && KNOWN_LATE.has(id)
          assert.deepEqual(late ? (second ?? first) : first, ONE_REQUEST)
        }),
      ])
      if (fault.nar !== undefined) {
        variants.push(
          t.test('of a peer, beside a healthy upstream', async (t) => {
            assert.deepEqual(await asPeer(t, rooted, fault), ONE_REQUEST)
          }),
        )
      }
      await Promise.all(variants)
    })
  }
})
