import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { RELAY_ANSWER_MS, RELAY_REFUSED_MS } from '../../src/limits.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openDailyBudget } from '../../src/operations/daily-budget.ts'
import { createRelay } from '../../src/operations/relay.ts'
import type { Relay } from '../../src/operations/relay.ts'
import { createHoldings } from '../../src/publish/holdings.ts'
import { COST } from '../../src/source.ts'
import { openDatabase } from '../../src/state/database.ts'
import { tempDir } from '../kit/temp.ts'
import { recordingLog } from '../kit/log.ts'
import { sharePolicy } from '../publish/kit.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { engine, MIB, narInfoOf, peer, silence, stream, tells, until } from '../substitute/kit.ts'
import type { TestStream } from '../substitute/kit.ts'

const SIZE = 2 * MIB + 500

function nar(name: string): { bytes: Buffer; info: NarInfo } {
  const bytes = noise(SIZE, name)
  return { bytes, info: narInfoOf(planOf(bytes), name) }
}

const newer = nar('program-1.1')
const older = nar('program-1.0')
const [wanted, here] = [hashPartOf(newer.info.storePath), hashPartOf(older.info.storePath)]
const unknown = hashPartOf(nar('program-0.9').info.storePath)

type Fault = Parameters<typeof stream>[2]

interface Parts {
  readonly deny?: readonly string[]
  readonly maxBytes?: number
  readonly spoolBytes?: number
  readonly fault?: Fault
  /** What an upstream tells instead. */
  readonly told?: (info: NarInfo) => NarInfo
}

/** A relay over a real engine, at one upstream that has both paths. */
async function relaying(t: TestContext, parts: Parts = {}) {
  const { deny = [], maxBytes = 100 * MIB, spoolBytes = 100 * MIB, fault, told = (info) => info } = parts
  const streams = new Map<string, TestStream>()
  const sources = [newer, older].map(({ bytes, info }) => {
    const one = stream(`upstream:${info.storePath}`, bytes, fault)
    streams.set(info.storePath, one)
    return tells(one.id, COST.upstream, { info: told(info), stream: one })
  })
  const neighbour = peer('neighbour:asker', new Map())
  const node = await engine(t, { sources, peers: [neighbour], shareable: true })
  const db = openDatabase(join(await tempDir(t), 'feeds.sqlite'), { synchronous: 'FULL' })
  t.after(() => db.close())
  const policy = sharePolicy(deny)
  const resolved: string[] = []
  let now = 1_000
  const clock = (): number => now
  const relay = createRelay({
    upstreams: sources,
    policy,
    holdings: createHoldings({ policy, table: node.table, index: node.index, blocks: node.blocks }),
    resolver: {
      byHashPart(hashPart, inner) {
        resolved.push(hashPart)
        return node.resolver.byHashPart(hashPart, inner)
      },
    },
    transfers: node.transfers,
    budget: openDailyBudget({ db, clock, monotonic: clock }, { table: 'relay_day', maxBytes }),
    spoolBytes: () => spoolBytes,
    clock,
    log: recordingLog(),
  })
  t.after(() => relay.close())
  const opened = (): number[][] => [...streams.values()].map((one) => one.opened)
  return { ...node, relay, opened, resolved, neighbour, pass: (ms: number) => void (now += ms) }
}

const ask = (relay: Relay): ReturnType<Relay['ask']> => relay.ask(wanted, here, options)

describe('a relay', () => {
  it('fetches both, each once for all who ask, and tells the CID of the wanted one', async (t) => {
    const { relay, opened, blocks, neighbour } = await relaying(t)
    const answers = await Promise.all([ask(relay), ask(relay), ask(relay)])
    const root = planOf(newer.bytes).root
    for (const answer of answers) {
      assert.ok(typeof answer === 'object')
      assert.equal(answer.cid, root.toString())
    }
    assert.ok(typeof (await ask(relay)) === 'object')
    assert.deepEqual(opened(), [[0], [0]])
    for (const { bytes } of [newer, older]) assert.ok(blocks.size(planOf(bytes).root, 'shared'))
    const { nars, bytes_today: bytes, under_way: underWay } = relay.status()
    assert.deepEqual([nars, bytes, underWay], [2, 2 * SIZE, 0])
    assert.deepEqual(neighbour.asked, [])
  })

  it('asks for patience, and goes on meanwhile', async (t) => {
    const late = new AbortController()
    t.mock.method(AbortSignal, 'timeout', (ms: number) =>
      ms === RELAY_ANSWER_MS ? late.signal : new AbortController().signal,
    )
    const gate = Promise.withResolvers<void>()
    const { relay, opened } = await relaying(t, { fault: () => gate.promise })
    const first = ask(relay)
    late.abort()
    assert.equal(await first, 'later')
    t.mock.restoreAll()
    const second = ask(relay)
    gate.resolve()
    assert.ok(typeof (await second) === 'object')
    assert.deepEqual(opened(), [[0], [0]])
  })

  it('that nobody waits for any more goes on', async (t) => {
    const { relay, opened } = await relaying(t)
    const abort = new AbortController()
    const asked = relay.ask(wanted, here, { signal: abort.signal })
    await until(() => opened().flat().length > 0)
    abort.abort(new Error('gone'))
    await assert.rejects(asked, /gone/)
    await until(() => relay.status().nars === 2)
  })

  const REFUSED: Record<string, Parts> = {
    'that share.deny names': { deny: ['program-1.1'] },
    'whose older one share.deny names': { deny: ['program-1.0'] },
    'that no share key signed': { told: (info) => ({ ...info, signatures: [] }) },
    'for which the day has too few bytes left': { maxBytes: 2 * SIZE - 1 },
    'for which the spool is too small': { spoolBytes: 2 * SIZE - 1 },
  }
  for (const [which, parts] of Object.entries(REFUSED)) {
    it(`fetches nothing of a path ${which}`, async (t) => {
      const { relay, opened } = await relaying(t, parts)
      assert.equal(await ask(relay), 'no')
      assert.deepEqual(opened(), [[], []])
      assert.equal(relay.status().bytes_today, 0)
    })
  }

  it('fetches nothing without an older one, and does not look for it again at once', async (t) => {
    const { relay, opened, sources, pass } = await relaying(t)
    const looks = (): number =>
      (sources as ReturnType<typeof tells>[]).reduce((sum, { asked }) => sum + asked, 0)
    assert.equal(await relay.ask(wanted, unknown, options), 'no')
    const before = looks()
    assert.equal(await relay.ask(wanted, unknown, options), 'no')
    assert.equal(looks(), before)
    pass(RELAY_REFUSED_MS + 1)
    assert.equal(await relay.ask(wanted, unknown, options), 'no')
    assert.ok(looks() > before)
    assert.deepEqual(opened(), [[], []])
  })

  it('looks up nothing of its own for a path that others may not have', async (t) => {
    const { relay, resolved } = await relaying(t, { deny: ['program-1.1'] })
    assert.equal(await ask(relay), 'no')
    assert.deepEqual(
      resolved.filter((one) => one === wanted),
      [],
    )
  })

  it('says no when the upstream breaks off', async (t) => {
    const { relay } = await relaying(t, {
      fault(at) {
        if (at > MIB) throw new Error('cut')
      },
    })
    assert.equal(await ask(relay), 'no')
  })

  it('that closes leaves nothing under way', async (t) => {
    const { relay, opened } = await relaying(t, { fault: (_, signal) => silence(signal) })
    const asked = ask(relay)
    await until(() => opened().flat().length === 2)
    relay.close()
    assert.equal(await asked, 'no')
    assert.equal(relay.status().under_way, 0)
  })
})
