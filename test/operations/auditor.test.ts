import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { rawCid } from '../../src/dag/cid.ts'
import type { Entry, MappingEntry } from '../../src/feed/entry.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { openDailyBudget } from '../../src/operations/daily-budget.ts'
import { openAuditMemory } from '../../src/operations/audit-memory.ts'
import { createAuditor } from '../../src/operations/auditor.ts'
import type { Auditor } from '../../src/operations/auditor.ts'
import { RequestError } from '../../src/operations/operations.ts'
import type { AuditedEntry, AuditEvent, AuditRequest } from '../../src/operations/operations.ts'
import { COST } from '../../src/source.ts'
import type { BlockSource } from '../../src/source.ts'
import { createRootJudge } from '../../src/substitute/root-judge.ts'
import { NAME, testClock, testFeed, testFollower, withdrawalOf } from '../feed/kit.ts'
import { tempDir } from '../kit/temp.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { noise, options, planOf, store as intoSpool } from '../spool/kit.ts'
import { blocksOf, engine, MIB, narInfoOf, peer, stream, testPolicy, tells } from '../substitute/kit.ts'

const DAY_MS = 24 * 3600 * 1000

/** A package of some MiB, as its builder signed it, and the entry that an honest publisher makes of it. */
function packageOf(name: string, size = 2 * MIB + 7) {
  const bytes = noise(size, name)
  const plan = planOf(bytes)
  const info = narInfoOf(plan, name)
  return { bytes, plan, info, entry: entryOf(info, plan.root) }
}

type Package = ReturnType<typeof packageOf>

function entryOf(info: NarInfo, cid: MappingEntry['cid']): MappingEntry {
  const { storePath, narHash, narSize, references, signatures } = info
  return { kind: 'mapping', storePath, narHash, narSize, references, signatures, cid }
}

const ONE = packageOf('one-1.0')
const TWO = packageOf('two-1.0', 3 * MIB + 9)
const LIE = entryOf(ONE.info, TWO.plan.root)

interface Parts {
  entries: Entry[]
  /** What an upstream has. */
  upstream?: Package[]
  peers?: BlockSource[]
  maxBytes?: number
  /** Numbers in [0, 1), over and over. */
  draws?: number[]
}

async function world(t: TestContext, parts: Parts) {
  const clock = testClock()
  const feed = await testFeed(t, { clock })
  await feed.publisher.append(parts.entries, options)
  const dbPath = join(await tempDir(t), 'feeds.sqlite')
  const peers = parts.peers ?? []
  let furthest = 0
  const streams = (parts.upstream ?? []).map(({ bytes, info }, at) => ({
    info,
    stream: stream(`upstream:${at}`, bytes, (byte) => void (furthest = Math.max(furthest, byte))),
  }))
  const first = await testFollower(t, feed, [feed.source()], { dbPath })
  await first.follower.sync(options)
  const node = await engine(t, {
    sources: [...first.follower.sources(), ...streams.map((one) => tells(one.stream.id, COST.upstream, one))],
    peers,
  })
  let drawn = 0
  const draws = parts.draws ?? [0]
  const auditorOver = ({ follower, db }: typeof first): Auditor => {
    const { resolver, transfers, scores, log, index } = node
    return createAuditor(
      {
        follower,
        policy: testPolicy,
        resolver,
        transfers,
        index,
        judge: createRootJudge({
          resolver,
          transfers,
          blockSources: () => peers,
          scores,
          clock: Date.now,
          log,
        }),
        memory: openAuditMemory({ db, clock }),
        budget: openDailyBudget(
          { db, clock, monotonic: clock },
          { table: 'audit_day', maxBytes: parts.maxBytes ?? 100 * MIB },
        ),
        random: () => draws[drawn++ % draws.length] ?? 0,
        clock,
        log,
      },
      { storeDir: STORE_DIR },
    )
  }
  return {
    ...node,
    ...first,
    clock,
    opened: () => streams.flatMap((one) => one.stream.opened).length,
    /** Byte up to which a stream was read. */
    furthest: () => furthest,
    auditor: auditorOver(first),
    /** Everything that remembers, closed and opened again. */
    async restart() {
      first.db.close()
      const again = await testFollower(t, feed, [], { dbPath })
      return { ...again, auditor: auditorOver(again) }
    },
  }
}

async function run(auditor: Auditor, sample: AuditRequest['sample'] = 'all') {
  const events: AuditEvent[] = await Array.fromAsync(auditor.run({ feed: NAME, sample }, options))
  const items: AuditedEntry[] = events.filter((event) => event.kind === 'item')
  return { items, done: events.at(-1) }
}

test('a right entry is right by what an upstream has, and nothing of it stays', async (t) => {
  const it = await world(t, { entries: [ONE.entry], upstream: [ONE] })
  const found = await it.auditor.turn(options)
  assert.equal(found?.outcome, 'right')
  assert.equal(found.fetchedBytes, ONE.bytes.length)
  assert.equal(it.spool.has(ONE.info.narHash), false)
  assert.equal(it.index.nar(ONE.info.narHash), undefined)
  const { right, wrong, bytes_today: today } = it.auditor.status()
  assert.deepEqual({ right, wrong, today }, { right: 1, wrong: 0, today: ONE.bytes.length })
})

test('a wrong entry is marked with both CIDs, told once in the log, and no root any more, also after a restart', async (t) => {
  const it = await world(t, { entries: [LIE], upstream: [ONE] })
  const [source] = it.follower.sources()
  const asked = hashPartOf(ONE.info.storePath)
  assert.equal((await source?.lookup(asked, options))?.cid?.toString(), LIE.cid.toString())
  const found = await it.auditor.turn(options)
  assert.equal(found?.outcome, 'wrong')
  assert.equal(found.told, TWO.plan.root.toString())
  assert.equal(found.computed, ONE.plan.root.toString())
  const errors = it.log.lines.filter(({ level }) => level === 'error')
  assert.equal(errors.length, 1)
  assert.match(
    errors[0]?.message ?? '',
    new RegExp(`feed ${NAME} is wrong about \\S+one-1.0: it tells CID ${found.told}, .*${found.computed}`),
  )

  assert.equal(await it.auditor.turn(options), undefined, 'it was audited again')
  const after = await it.restart()
  const [again] = after.follower.sources()
  assert.equal(await again?.lookup(asked, options), undefined)
  assert.deepEqual(after.auditor.status().bad, [
    {
      feed: NAME,
      path: `${STORE_DIR}/${ONE.info.storePath}`,
      nar_hash: `sha256:${ONE.info.narHash}`,
      told: found.told,
      computed: found.computed,
      found_at: '2026-09-21T14:13:20Z',
    },
  ])
  const { items } = await run(after.auditor)
  assert.deepEqual(
    items.map(({ outcome, computed }) => ({ outcome, computed })),
    [{ outcome: 'wrong', computed: found.computed }],
  )
})

for (const { title, blocks, computed } of [
  {
    title: 'peers have what the wrong CID leads to: that alone proves it',
    blocks: blocksOf(TWO.bytes),
    computed: undefined,
  },
  {
    title: 'peers have the same size of other bytes',
    blocks: blocksOf(noise(ONE.bytes.length, 'twin')),
    computed: undefined,
  },
]) {
  test(title, async (t) => {
    const twin = planOf(noise(ONE.bytes.length, 'twin')).root
    const cid = blocks.has(twin.toString()) ? twin : LIE.cid
    const it = await world(t, { entries: [{ ...LIE, cid }], peers: [peer('p', blocks)] })
    const found = await it.auditor.turn(options)
    assert.equal(found?.outcome, 'wrong')
    assert.equal(found.computed, computed)
    assert.equal(it.auditor.status().bad_count, 1)
  })
}

test('peers with the right blocks prove a right entry, and no upstream is asked', async (t) => {
  const it = await world(t, {
    entries: [ONE.entry],
    upstream: [ONE],
    peers: [peer('p', blocksOf(ONE.bytes))],
  })
  assert.equal((await it.auditor.turn(options))?.outcome, 'right')
  assert.equal(it.opened(), 0)
})

test('a peer that lies about blocks makes no entry wrong', async (t) => {
  const liar = peer('liar', blocksOf(ONE.bytes), (block) => Uint8Array.from(block, (byte) => byte ^ 1))
  const it = await world(t, { entries: [ONE.entry], peers: [liar] })
  assert.equal((await it.auditor.turn(options))?.outcome, 'unavailable')
  assert.equal(it.auditor.status().bad_count, 0)
})

test('an upstream with other bytes makes no entry wrong', async (t) => {
  const forged = { ...ONE, bytes: noise(ONE.bytes.length, 'forged') }
  const it = await world(t, { entries: [ONE.entry], upstream: [forged] })
  assert.equal((await it.auditor.turn(options))?.outcome, 'unavailable')
  assert.equal(it.auditor.status().bad_count, 0)
})

test('an upstream that gives more than was signed is not read on', async (t) => {
  const endless = { ...ONE, bytes: noise(5 * ONE.bytes.length, 'endless') }
  const it = await world(t, { entries: [ONE.entry], upstream: [endless] })
  assert.equal((await it.auditor.turn(options))?.outcome, 'unavailable')
  assert.ok(it.furthest() < ONE.bytes.length + 2 * 65_536, `read to ${it.furthest()}`)
})

test('bytes that nobody has are no verdict; an entry that nobody trusted signed is none either', async (t) => {
  const unsigned = packageOf('unsigned-1.0')
  const stranger = entryOf({ ...unsigned.info, signatures: LIE.signatures }, unsigned.plan.root)
  const it = await world(t, { entries: [ONE.entry, stranger], upstream: [unsigned] })
  const { items, done } = await run(it.auditor)
  assert.deepEqual(
    items.map(({ outcome }) => outcome),
    ['unavailable', 'untrusted'],
  )
  assert.equal(it.opened(), 0)
  assert.deepEqual(done, {
    kind: 'done',
    feed: NAME,
    right: 0,
    wrong: 0,
    unavailable: 1,
    untrusted: 1,
    fetchedBytes: 0,
  })
})

test('what is here is audited from disk, whatever is left of the budget', async (t) => {
  const it = await world(t, { entries: [LIE], maxBytes: 1 })
  assert.equal(await it.auditor.turn(options), undefined)
  it.index.put(await intoSpool(it.spool, ONE.bytes), { shared: false, inSpool: true })
  const found = await it.auditor.turn(options)
  assert.equal(found?.outcome, 'wrong')
  assert.equal(found.fetchedBytes, 0)
  assert.equal(it.auditor.status().bytes_today, 0)
  assert.ok(it.spool.has(ONE.info.narHash))
})

test('picks any position, of those that can be audited and were not yet, within the budget', async (t) => {
  const small = packageOf('small-1.0', 1000)
  const gone = packageOf('gone-1.0')
  const entries = [small.entry, gone.entry, ONE.entry, withdrawalOf(gone.entry), TWO.entry]
  // The third, twice; the second time it was audited already.
  const draws = [0, 0.2, 0.4, 0.4, 0.6, 0.8]
  const it = await world(t, {
    entries,
    upstream: [ONE, TWO, gone],
    draws,
    maxBytes: ONE.bytes.length + TWO.bytes.length,
  })
  assert.equal((await it.auditor.turn(options))?.position, 2)
  it.clock.seconds += 1
  assert.equal((await it.auditor.turn(options))?.position, 4)
  assert.equal(await it.auditor.turn(options), undefined, 'nothing is left of the budget')
  it.clock.seconds += (2 * DAY_MS) / 1000
  assert.equal((await it.auditor.turn(options))?.position, 2, 'nothing else is left, so the oldest again')
})

test('a failed way counts in the budget, and ends the audit when that has no more', async (t) => {
  const forged = noise(ONE.bytes.length, 'forged')
  const it = await world(t, {
    entries: [ONE.entry],
    upstream: [
      { ...ONE, bytes: forged },
      { ...ONE, bytes: forged },
    ],
    maxBytes: ONE.bytes.length * 2 - 1,
  })
  assert.equal(await it.auditor.turn(options), undefined)
  assert.equal(it.auditor.status().bytes_today, ONE.bytes.length)
})

test('a sample has each entry once, and all of them when it is larger', async (t) => {
  const it = await world(t, {
    entries: [ONE.entry, TWO.entry, LIE],
    upstream: [ONE, TWO],
    draws: [0.9, 0.1, 0.5],
  })
  const two = await run(it.auditor, 2)
  assert.equal(new Set(two.items.map(({ position }) => position)).size, 2)
  const { items, done } = await run(it.auditor, 50)
  assert.deepEqual(
    items.map(({ outcome }) => outcome),
    ['right', 'right', 'wrong'],
  )
  assert.equal(done?.kind === 'done' && done.wrong, 1)
  assert.equal(it.auditor.status().bytes_today, 0, 'asked for by hand, and beside the budget')
})

test('one NAR of two paths is fetched once in a run', async (t) => {
  const other = entryOf(narInfoOf(ONE.plan, 'other-name-1.0'), ONE.plan.root)
  const it = await world(t, { entries: [ONE.entry, other], upstream: [ONE] })
  const { items } = await run(it.auditor)
  assert.deepEqual(
    items.map(({ fetchedBytes }) => fetchedBytes),
    [ONE.bytes.length, 0],
  )
})

test('a feed that is not followed is a mistake of the asker', async (t) => {
  const it = await world(t, { entries: [ONE.entry] })
  const asked = Array.fromAsync(it.auditor.run({ feed: 'b.example/c', sample: 1 }, options))
  await assert.rejects(
    asked,
    (error: unknown) => error instanceof RequestError && error.message.includes(NAME),
  )
})

test('so small a NAR is its own proof', async (t) => {
  const small = packageOf('small-1.0', 1000)
  const it = await world(t, { entries: [small.entry] })
  assert.equal(small.entry.cid.toString(), rawCid(small.plan.root.multihash.digest).toString())
  const { items } = await run(it.auditor)
  assert.deepEqual(
    items.map(({ outcome, fetchedBytes }) => [outcome, fetchedBytes]),
    [['right', 0]],
  )
  assert.equal(await it.auditor.turn(options), undefined)
})
