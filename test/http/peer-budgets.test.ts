import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createPeerBudgets } from '../../src/http/peer-budgets.ts'
import type { PeerBody } from '../../src/http/peer-budgets.ts'
import {
  PEER_ADDRESSES_MAX_COUNT,
  PEER_ALL_BODIES_COUNT,
  PEER_BODIES_COUNT,
  PEER_REQUESTS_BURST_COUNT,
  PEER_REQUESTS_COUNT,
  PEER_REQUESTS_PER_S,
  PEER_STALLED_MS,
  PEER_WAIT_MS,
} from '../../src/limits.ts'
import { recordingLog } from '../kit/log.ts'

const options = { signal: new AbortController().signal }
/** Its reader takes all of it at once. */
const TAKEN: PeerBody = { isPending: () => false, cut: () => assert.fail('cut') }

/** Time goes on, and waiting ends, when the test says so. */
function budgeting() {
  let now = 0
  const log = recordingLog()
  const waits: { ms: number; end: () => void }[] = []
  const budgets = createPeerBudgets({
    log,
    clock: () => now,
    wait: (ms, { signal }) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted()
        const onAbort = (): void => reject(signal.reason as Error)
        signal.addEventListener('abort', onAbort)
        waits.push({
          ms,
          end() {
            signal.removeEventListener('abort', onAbort)
            resolve(undefined)
          },
        })
      }),
  })
  /** @returns what ends it */
  const enter = async (who: string, weighty: boolean) => {
    const visit = await budgets.enter(who, weighty ? TAKEN : undefined, options)
    return visit && (() => visit.leave())
  }
  const enterAll = async (count: number, who: string, weighty: boolean) => {
    const entered = await Promise.all(Array.from({ length: count }, () => enter(who, weighty)))
    assert.ok(entered.every((leave) => leave !== undefined))
    return entered
  }
  return { log, waits, budgets, enter, enterAll, pass: (ms: number) => void (now += ms) }
}

test('a Nix of 25 connections and a neighbour with 14 leaves under way wait for nothing', async () => {
  const { enterAll, waits, budgets } = budgeting()
  for (let n = 0; n < 2000; n++) {
    const all = [...(await enterAll(25, 'a', true)), ...(await enterAll(14, 'a', true))]
    for (const leave of all) leave?.()
    // What goes beyond the burst is slower than a thousand leaves a second.
    if ((n + 1) * 39 > PEER_REQUESTS_BURST_COUNT - 39) break
  }
  assert.deepEqual(waits, [])
  assert.equal(budgets.report()[0]?.refused, 0)
})

test('too many requests at once are refused, of this address alone, until others end', async () => {
  const { enter, enterAll, log } = budgeting()
  const [first] = await enterAll(PEER_REQUESTS_COUNT, 'a', false)
  assert.equal(await enter('a', false), undefined)
  assert.equal(await enter('a', false), undefined)
  assert.notEqual(await enter('b', false), undefined)
  first?.()
  first?.()
  assert.notEqual(await enter('a', false), undefined)
  assert.equal(await enter('a', false), undefined)
  assert.equal(log.lines.filter(({ message }) => message.includes('over its budget')).length, 1)
})

test('requests that come too fast wait, and are refused when that takes too long', async () => {
  const { enter, waits } = budgeting()
  for (let n = 0; n < PEER_REQUESTS_BURST_COUNT; n++) (await enter('a', false))?.()
  void enter('a', false)
  assert.ok(Math.abs((waits[0]?.ms ?? 0) - 1000 / PEER_REQUESTS_PER_S) < 0.001)
  waits[0]?.end()
  for (let n = 1; n < (PEER_REQUESTS_PER_S * PEER_WAIT_MS) / 1000; n++) {
    const waiting = enter('a', false)
    waits.at(-1)?.end()
    ;(await waiting)?.()
  }
  assert.equal(await enter('a', false), undefined)
  assert.notEqual(await enter('b', false), undefined)
})

test('bodies over the budget of an address wait for its others, and narinfos do not', async () => {
  const { enter, enterAll, waits } = budgeting()
  const [first] = await enterAll(PEER_BODIES_COUNT, 'a', true)
  const waiting = enter('a', true)
  await turn()
  assert.equal(waits[0]?.ms, PEER_WAIT_MS)
  assert.notEqual(await enter('a', false), undefined)
  assert.notEqual(await enter('b', true), undefined)
  first?.()
  assert.notEqual(await waiting, undefined)
})

test('bodies over all addresses take turns, and are refused when there is no room in time', async () => {
  const { enter, enterAll, waits } = budgeting()
  const [first] = await enterAll(PEER_BODIES_COUNT, 'a', true)
  await enterAll(PEER_ALL_BODIES_COUNT - PEER_BODIES_COUNT, 'b', true)
  const order: string[] = []
  const wanted = ['b', 'b', 'b', 'c'].map(async (who) => {
    if ((await enter(who, true)) !== undefined) order.push(who)
  })
  await turn()
  first?.()
  await turn()
  assert.deepEqual(order, ['b'])
  for (const wait of waits) wait.end()
  await Promise.all(wanted)
  assert.deepEqual(order, ['b'])
})

test('bodies whose readers take nothing make room for who waits, and no others do', async () => {
  const { budgets, enter, enterAll, pass } = budgeting()
  const cuts: string[] = []
  const hold = async (name: string, turn?: Promise<void>) => {
    const cut = (): void => {
      cuts.push(name)
      visit?.leave()
    }
    const visit = await budgets.enter('slow', { isPending: () => true, cut }, options)
    visit?.sending(1, turn)
    return visit
  }
  await enterAll(PEER_BODIES_COUNT - 3, 'slow', true)
  await hold('stalled')
  const moving = await hold('moving')
  pass(PEER_STALLED_MS)
  moving?.sending(1, undefined)
  await hold('let go just now', new Promise((resolve) => setImmediate(resolve)))
  pass(1)
  assert.notEqual(await enter('other', true), undefined)
  await turn()
  assert.deepEqual(cuts, [])
  assert.notEqual(await enter('slow', true), undefined)
  assert.deepEqual(cuts, ['stalled'])
})

test('who goes while it waits leaves no trace', async () => {
  const { budgets, enter, enterAll } = budgeting()
  const [first] = await enterAll(PEER_BODIES_COUNT, 'a', true)
  const gone = new AbortController()
  const waiting = budgets.enter('a', TAKEN, { signal: gone.signal })
  await turn()
  gone.abort(new Error('gone'))
  await assert.rejects(waiting, /gone/)
  first?.()
  assert.notEqual(await enter('a', true), undefined)
})

test('addresses are forgotten, the oldest first', async () => {
  const { budgets, enter } = budgeting()
  for (let n = 0; n <= PEER_ADDRESSES_MAX_COUNT; n++) (await enter(`peer ${n}`, false))?.()
  const names = budgets.report().map(({ address }) => address)
  assert.equal(names.length, PEER_ADDRESSES_MAX_COUNT)
  assert.equal(names.includes('peer 0'), false)
  assert.equal(names[0], `peer ${PEER_ADDRESSES_MAX_COUNT}`)
})
