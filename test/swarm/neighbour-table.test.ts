import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import {
  NEIGHBOUR_LIE_OUT_MS,
  NEIGHBOUR_PROBE_MS,
  NEIGHBOUR_REASON_MAX_CHARS,
  NEIGHBOUR_REST_CEILING_MS,
  NEIGHBOUR_REST_FLOOR_MS,
  NEIGHBOURS_CURRENT_MAX_COUNT,
  NEIGHBOURS_MAX_COUNT,
  NEIGHBOURS_PER_HOST_COUNT,
} from '../../src/limits.ts'
import { createBestEffort } from '../../src/state/best-effort.ts'
import { openDatabase } from '../../src/state/database.ts'
import { parseNeighbour } from '../../src/swarm/neighbour-id.ts'
import { openNeighbourRows } from '../../src/swarm/neighbour-rows.ts'
import { createNeighbourTable } from '../../src/swarm/neighbour-table.ts'
import type { NeighbourTable, NeighbourTableConfig } from '../../src/swarm/neighbour-table.ts'
import { recordingLog } from '../kit/log.ts'
import { tempDir } from '../kit/temp.ts'

const URL_A = new URL('http://10.0.0.2:6278/')
const CACHE_A = 'cache:http://10.0.0.2:6278/'
const PEER = '12D3KooWGatU2NcRgWDLMqGxnvKYjAhFRMsvLTnuDiXZtUBKcpkM'
const NARSWARM = `narswarm:${PEER}`
const ADDR = `/ip4/10.0.0.2/tcp/6279/p2p/${PEER}`
const OK = { kind: 'narswarm', hasCache: true, knowsDifferences: true, latencyMs: 3 } as const

interface Bench {
  now: number
  readonly log: ReturnType<typeof recordingLog>
  /** As after a restart: another table over the same rows. */
  open(config?: Partial<NeighbourTableConfig>): NeighbourTable
}

async function bench(t: TestContext): Promise<Bench> {
  const db = openDatabase(join(await tempDir(t), 'state.sqlite'))
  t.after(() => db.close())
  const log = recordingLog()
  const it: Bench = {
    now: 1_800_000_000_000,
    log,
    open: (config = {}) =>
      createNeighbourTable(
        {
          rows: openNeighbourRows(db),
          bestEffort: createBestEffort({ log, clock: () => it.now }),
          clock: () => it.now,
          stopwatch: () => it.now - 1_799_999_999_000,
          ownId: () => 'narswarm:me',
          log,
        },
        { urls: [], addrs: [], useFound: true, ...config },
      ),
  }
  return it
}

const ids = (table: NeighbourTable): string[] => table.current().map(({ id }) => id)
const stateOf = (table: NeighbourTable, id: string): string | undefined =>
  table.list().find((one) => one.id === id)?.state
/** Found, and its first probe came back. */
function meet(table: NeighbourTable, peerId = PEER, url = URL_A): void {
  table.found({ peerId, url })
  table.probed(`narswarm:${peerId}`, url, OK)
}

test('a URL of the configuration is known from the start, and what it is once it was probed', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [new URL('http://10.0.0.2:6278'), new URL('https://cache.example.org/a')] })
  assert.deepEqual(
    table.current().map(({ id, kind, hasCache, url, from }) => [id, kind, hasCache, url.href, from]),
    [
      [CACHE_A, 'cache', false, 'http://10.0.0.2:6278/', 'config'],
      ['cache:https://cache.example.org/a/', 'cache', false, 'https://cache.example.org/a/', 'config'],
    ],
  )
  table.probed(CACHE_A, URL_A, OK)
  assert.deepEqual(
    table.current().map(({ kind, hasCache }) => [kind, hasCache]),
    [
      ['narswarm', true],
      ['cache', false],
    ],
  )
  assert.equal(it.open({ urls: [URL_A] }).current()[0]?.kind, 'narswarm')
})

test('what one that was named by URL knows is what its last probe said, and is asked anew after a restart', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [URL_A] })
  const knows = (one = table) => one.current()[0]?.knowsDifferences
  let changes = 0
  table.onChange(() => (changes += 1))
  assert.equal(knows(), false)
  table.probed(CACHE_A, URL_A, OK)
  assert.equal(knows(), true)
  changes = 0
  table.probed(CACHE_A, URL_A, { ...OK, knowsDifferences: false })
  assert.deepEqual([knows(), changes], [false, 1])
  table.probed(CACHE_A, URL_A, OK)
  assert.equal(knows(it.open({ urls: [URL_A] })), false)
})

test('a gateway that is no cache is told so, and a cache that was seen once is one after a restart', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [URL_A] })
  const isCache = (one: NeighbourTable): boolean | undefined => one.current()[0]?.hasCache
  table.probed(CACHE_A, URL_A, { ...OK, kind: 'cache' })
  assert.equal(isCache(table), true)
  assert.equal(isCache(it.open({ urls: [URL_A] })), true)
  table.probed(CACHE_A, URL_A, { ...OK, hasCache: false })
  assert.equal(isCache(table), false)
  assert.equal(isCache(it.open({ urls: [URL_A] })), false)
  table.probed(CACHE_A, URL_A, OK)
  assert.equal(isCache(table), true)
})

test('one that was found is asked once a probe has come back, and by its proved id', async (t) => {
  const it = await bench(t)
  const table = it.open()
  let changes = 0
  table.onChange(() => (changes += 1))
  table.found({ peerId: PEER, url: URL_A })
  assert.deepEqual(ids(table), [])
  assert.deepEqual(table.due(), [{ id: NARSWARM, url: URL_A }])
  table.probed(NARSWARM, URL_A, OK)
  assert.deepEqual(table.current(), [
    { id: NARSWARM, kind: 'narswarm', hasCache: true, url: URL_A, from: 'mdns', knowsDifferences: true },
  ])
  assert.equal(changes, 2)
  assert.deepEqual(table.due(), [])
})

test('a relay is one that was named and says so', async (t) => {
  const table = (await bench(t)).open({ urls: [URL_A] })
  let changes = 0
  table.onChange(() => (changes += 1))
  const relays = (): string[] => table.current().flatMap(({ id, isRelay }) => (isRelay === true ? [id] : []))
  const told = (): string[] => table.list().flatMap(({ id, isRelay }) => (isRelay ? [id] : []))
  table.probed(CACHE_A, URL_A, OK)
  assert.deepEqual(relays(), [])
  const before = changes
  table.probed(CACHE_A, URL_A, { ...OK, isRelay: true })
  assert.deepEqual([relays(), told()], [[CACHE_A], [CACHE_A]])
  assert.equal(changes, before + 1)
  table.probed(CACHE_A, URL_A, OK)
  assert.deepEqual([relays(), told()], [[], []])
})

test('one that was only found is no relay, whatever it says; one that was named by its URL, too, is', async (t) => {
  const it = await bench(t)
  for (const urls of [[], [URL_A]]) {
    const table = it.open({ urls })
    table.found({ peerId: PEER, url: URL_A })
    table.probed(NARSWARM, URL_A, { ...OK, isRelay: true })
    const one = table.current().find(({ id }) => id === NARSWARM)
    assert.equal(one?.isRelay === true, urls.length > 0)
  }
})

test('our own peer id is no neighbour', async (t) => {
  const table = (await bench(t)).open()
  table.found({ peerId: 'me', url: URL_A })
  assert.deepEqual(table.list(), [])
})

test('one that failed is left alone for twice as long each time, and asked again once a probe came back', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  let restMs = NEIGHBOUR_REST_FLOOR_MS
  for (let turn = 0; turn < 12; turn++) {
    if (turn === 0) table.failed(NARSWARM, 'reset')
    else table.probed(NARSWARM, URL_A, { error: 'refused' })
    assert.deepEqual(ids(table), [])
    assert.equal(stateOf(table, NARSWARM), 'resting')
    it.now += restMs - 1
    assert.deepEqual(table.due(), [], `after ${restMs - 1} ms`)
    it.now += 1
    assert.equal(table.due().length, 1)
    assert.deepEqual(ids(table), [], 'its back-off is over, and nobody knows whether it is there')
    restMs = Math.min(NEIGHBOUR_REST_CEILING_MS, restMs * 2)
  }
  table.probed(NARSWARM, URL_A, OK)
  assert.deepEqual(ids(table), [NARSWARM])
})

test('of all that was under way when a neighbour failed only the first failure counts', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  for (let n = 0; n < 20; n++) table.failed(NARSWARM, 'reset')
  it.now += NEIGHBOUR_REST_FLOOR_MS
  assert.equal(table.due().length, 1)
})

test('an answer ends what failures before it began', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  table.failed(NARSWARM, 'reset')
  table.answered(NARSWARM)
  assert.deepEqual(ids(table), [NARSWARM])
  table.failed(NARSWARM, 'reset')
  it.now += NEIGHBOUR_REST_FLOOR_MS
  assert.equal(table.due().length, 1)
})

test('one probe does not end a back-off that grows: who stalls on each NAR answers each probe', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  table.failed(NARSWARM, 'stalled')
  it.now += NEIGHBOUR_REST_FLOOR_MS
  table.probed(NARSWARM, URL_A, OK)
  table.failed(NARSWARM, 'stalled')
  it.now += NEIGHBOUR_REST_FLOOR_MS
  assert.deepEqual(table.due(), [])
  it.now += NEIGHBOUR_REST_FLOOR_MS
  assert.equal(table.due().length, 1)
})

test('a laptop that comes back is probed at once, at its new address', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  for (let n = 0; n < 8; n++) table.probed(NARSWARM, URL_A, { error: 'no route' })
  const moved = new URL('http://10.0.0.9:6278/')
  table.found({ peerId: PEER, url: moved })
  assert.deepEqual(table.due(), [{ id: NARSWARM, url: moved }])
  table.probed(NARSWARM, URL_A, OK)
  assert.deepEqual(ids(table), [], 'an answer of its old address says nothing')
  table.probed(NARSWARM, moved, OK)
  assert.deepEqual(table.current()[0]?.url, moved)
})

test('one that nobody asks anything is probed from time to time', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  assert.equal(table.dueInMs(), NEIGHBOUR_PROBE_MS)
  it.now += NEIGHBOUR_PROBE_MS - 1
  table.answered(NARSWARM)
  it.now += 1
  assert.deepEqual(table.due(), [], 'an answer to somebody is as good as a probe')
  it.now += NEIGHBOUR_PROBE_MS
  assert.equal(table.due().length, 1)
})

test('who gave wrong bytes is out for a day, over restarts, whatever it answers, and the reason is kept', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  table.lied(NARSWARM, `leaf 3 of ${'x'.repeat(1000)}`)
  for (const one of [table, it.open()]) {
    one.answered(NARSWARM)
    meet(one)
    assert.deepEqual(ids(one), [])
    assert.deepEqual(one.due(), [])
    const [told] = one.list()
    assert.equal(told?.state, 'out')
    assert.match(told?.reason ?? '', /^leaf 3 of x+…$/)
    assert.equal(told?.reason?.length, NEIGHBOUR_REASON_MAX_CHARS + 1)
    assert.equal(told?.until, it.now + NEIGHBOUR_LIE_OUT_MS)
  }
  it.now += NEIGHBOUR_LIE_OUT_MS + 1
  meet(table)
  assert.deepEqual(ids(table), [NARSWARM])
})

test('a ban holds over restarts until it is taken away', async (t) => {
  const it = await bench(t)
  const table = it.open()
  meet(table)
  table.ban(parseNeighbour(PEER), 'too slow')
  for (const one of [table, it.open()]) {
    meet(one)
    assert.deepEqual(ids(one), [])
    assert.deepEqual(one.due(), [])
    assert.deepEqual([one.list()[0]?.state, one.list()[0]?.reason], ['banned', 'too slow'])
  }
  const again = it.open()
  assert.equal(again.unban(parseNeighbour(PEER)), true)
  assert.equal(again.unban(parseNeighbour(PEER)), false)
  meet(again)
  assert.deepEqual(ids(again), [NARSWARM])
  assert.equal(stateOf(it.open(), NARSWARM), 'unknown')
})

test('a banned URL bans whoever is there, now and later, by whatever id', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [URL_A] })
  meet(table)
  table.ban(parseNeighbour('http://10.0.0.2:6278'), '')
  assert.deepEqual(ids(table), [])
  meet(table, 'another')
  assert.deepEqual(ids(table), [])
  const later = it.open()
  meet(later, 'a-third')
  assert.deepEqual(ids(later), [])
  later.unban(parseNeighbour('http://10.0.0.2:6278/'))
  meet(later, 'a-third')
  assert.deepEqual(ids(later), ['narswarm:a-third'])
})

test('one that was named by URL and found by peer id is asked once', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [URL_A] })
  meet(table)
  assert.deepEqual(ids(table), [NARSWARM])
  table.failed(NARSWARM, 'reset')
  assert.deepEqual(ids(table), [CACHE_A])
})

test('what was added is kept over restarts until it is removed', async (t) => {
  const it = await bench(t)
  it.open().add(parseNeighbour('http://10.0.0.2:6278'))
  const table = it.open()
  assert.deepEqual(
    table.current().map(({ id, from }) => [id, from]),
    [[CACHE_A, 'added']],
  )
  assert.equal(table.remove(parseNeighbour(CACHE_A)), 'removed')
  assert.equal(table.remove(parseNeighbour(CACHE_A)), 'unknown')
  assert.deepEqual(it.open().list(), [])
})

test('what the configuration names cannot be removed, and is gone when it names it no more', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [URL_A], addrs: [ADDR] })
  table.probed(CACHE_A, URL_A, OK)
  assert.equal(table.remove(parseNeighbour(CACHE_A)), 'configured')
  assert.equal(table.remove(parseNeighbour(ADDR)), 'configured')
  assert.deepEqual(it.open().list(), [])
})

test('one that was named by multiaddr is to be greeted, and asked once that told where', async (t) => {
  const it = await bench(t)
  const table = it.open({ addrs: [ADDR] })
  assert.deepEqual(table.named(), [ADDR])
  assert.deepEqual([ids(table), table.due()], [[], []])
  meet(table)
  assert.deepEqual(table.current(), [
    { id: NARSWARM, kind: 'narswarm', hasCache: true, url: URL_A, from: 'config', knowsDifferences: true },
  ])
  table.ban(parseNeighbour(ADDR), '')
  assert.deepEqual(table.named(), [])
})

test('those that were found before are probed after a restart, and not used where nobody is looked for', async (t) => {
  const it = await bench(t)
  meet(it.open())
  assert.deepEqual(it.open().due(), [{ id: NARSWARM, url: URL_A }])
  const alone = it.open({ useFound: false })
  meet(alone)
  assert.deepEqual([alone.due(), ids(alone)], [[], []])
})

test('ten thousand ids at one address are a few rows, and those of many addresses a bounded number', async (t) => {
  const it = await bench(t)
  const table = it.open({ urls: [new URL('http://10.9.9.9:1/')] })
  for (let n = 0; n < 2_000; n++) {
    it.now += 1
    table.found({ peerId: `flood${n}`, url: new URL(`http://10.0.0.66:${1000 + n}/`) })
  }
  assert.equal(table.list().length, 1 + NEIGHBOURS_PER_HOST_COUNT)
  for (let n = 0; n < 1_000; n++) {
    it.now += 1
    meet(table, `n${n}`, new URL(`http://10.1.${n >> 8}.${n & 255}:6278/`))
  }
  assert.equal(table.list().length, NEIGHBOURS_MAX_COUNT)
  assert.equal(it.open().list().length, NEIGHBOURS_MAX_COUNT - 1)
  assert.equal(table.current().length, NEIGHBOURS_CURRENT_MAX_COUNT)
  assert.equal(table.current()[0]?.id, 'cache:http://10.9.9.9:1/')
})

test('an address whose ids all gave wrong bytes gets no further one', async (t) => {
  const it = await bench(t)
  const table = it.open()
  for (let n = 0; n <= NEIGHBOURS_PER_HOST_COUNT; n++) {
    meet(table, `liar${n}`, new URL(`http://10.0.0.66:${1000 + n}/`))
    table.lied(`narswarm:liar${n}`, 'a flipped bit')
  }
  assert.equal(table.list().length, NEIGHBOURS_PER_HOST_COUNT)
  assert.ok(table.list().every(({ state }) => state === 'out'))
})

test('a machine that was set up anew takes the place of the one that was at its URL', async (t) => {
  const table = (await bench(t)).open()
  meet(table)
  meet(table, 'anew')
  assert.deepEqual(
    table.list().map(({ id }) => id),
    ['narswarm:anew'],
  )
})

test('what cannot be named is told in words', () => {
  for (const text of [
    '',
    'ftp://x',
    'http://u:p@x/',
    'http://x/?a',
    '/ip4/10.0.0.2/tcp/6279',
    'narswarm:x',
  ]) {
    assert.throws(() => parseNeighbour(text), RangeError, text)
  }
  assert.equal(parseNeighbour('http://x').id, 'cache:http://x/')
  assert.equal(parseNeighbour(`narswarm:${PEER}`).id, NARSWARM)
  assert.equal(parseNeighbour(ADDR).id, NARSWARM)
})
