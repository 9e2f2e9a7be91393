import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { ALONG_WAITING_MAX_COUNT } from '../../src/limits.ts'
import { createNarsUnderWay } from '../../src/publish/under-way.ts'
import type { Part } from '../../src/substitute/along-ways.ts'
import { createUnderWay } from '../../src/substitute/under-way.ts'
import type { AlongRequest } from '../../src/swarm/along-wire.ts'
import { pattern, testNar } from '../http/kit.ts'
import { rendezvousOrder } from '../../src/swarm/rendezvous.ts'
import { collect, options } from '../spool/kit.ts'

const nar = testNar(pattern(100_000))
const { narHash } = nar.info
const [FIRST = '', SELF = '', LAST = ''] = rendezvousOrder(narHash, [
  'narswarm:a',
  'narswarm:b',
  'narswarm:c',
])
const WAIT: AlongRequest = { begunMs: 300, expectedMs: 200 }
const NO_WAIT: AlongRequest = { begunMs: 0, expectedMs: 0 }

/** Time that passes by hand. */
function bench(t: TestContext, { shareable = true } = {}) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  const table = createUnderWay({ clock: Date.now })
  const shared = createNarsUnderWay({
    underWay: table,
    shareable: () => shareable,
    clock: Date.now,
    self: () => SELF,
  })
  const state: { part: Part } = { part: 'deciding' }
  const followed: string[] = []
  const begin = (part: Part): void => {
    state.part = part
    table.add({
      info: nar.info,
      get part() {
        return state.part
      },
      async *follow(range) {
        followed.push(`${range.start}-${range.end}`)
        yield nar.bytes.subarray(range.start, range.end)
      },
    })
  }
  const turn = (part: Part): void => {
    state.part = part
    table.turn()
  }
  /** What it answers: at once, or nothing yet. */
  const ask = (wait: AlongRequest, inner = options) => {
    let answer: 'waits' | 'the NAR' | 'a miss' | 'an error' = 'waits'
    shared.open(narHash, wait, inner).then(
      (found) => (answer = found === undefined ? 'a miss' : 'the NAR'),
      () => (answer = 'an error'),
    )
    return async (): Promise<string> => {
      for (let i = 0; i < 20; i++) await Promise.resolve()
      return answer
    }
  }
  return { table, shared, begin, turn, ask, followed }
}

describe('what a neighbour is answered who asks for a NAR that is not here', () => {
  const states = {
    'nobody here wants it': () => {},
    'our Nix has its narinfo': ({ table }) => table.expect(nar.info),
    'it looks where it can be had': ({ begin }) => begin('deciding'),
    'it is on its way': ({ begin }) => begin('own'),
    'it comes from another neighbour': ({ begin }) => begin('along'),
  } satisfies Record<string, (one: ReturnType<typeof bench>) => void>
  const answers: Record<keyof typeof states, [waiting: string, notWaiting: string]> = {
    'nobody here wants it': ['a miss', 'a miss'],
    'our Nix has its narinfo': ['waits', 'a miss'],
    'it looks where it can be had': ['waits', 'a miss'],
    'it is on its way': ['the NAR', 'the NAR'],
    'it comes from another neighbour': ['a miss', 'a miss'],
  }
  for (const [name, set] of Object.entries(states)) {
    const [waiting, notWaiting] = answers[name as keyof typeof states]
    it(`${name}: ${waiting}; without a wait ${notWaiting}; unless it is shared a miss`, async (t) => {
      const one = bench(t)
      set(one)
      assert.equal(await one.ask(WAIT)(), waiting)
      assert.equal(await one.ask(NO_WAIT)(), notWaiting)
      t.mock.timers.reset()
      const other = bench(t, { shareable: false })
      set(other)
      assert.equal(await other.ask(WAIT)(), 'a miss')
    })
  }

  it('waits for as long as it was told, and no longer', async (t) => {
    const { table, begin, ask } = bench(t)
    table.expect(nar.info)
    const expected = ask(WAIT)
    t.mock.timers.tick(199)
    assert.equal(await expected(), 'waits')
    t.mock.timers.tick(1)
    assert.equal(await expected(), 'a miss')
    const begun = ask(WAIT)
    t.mock.timers.tick(150)
    begin('deciding')
    assert.equal(await begun(), 'waits')
    t.mock.timers.tick(149)
    assert.equal(await begun(), 'waits')
    t.mock.timers.tick(1)
    assert.equal(await begun(), 'a miss')
  })
  it('hears of the NAR as soon as it is on its way', async (t) => {
    const { table, begin, turn, ask } = bench(t)
    table.expect(nar.info)
    const answer = ask(WAIT)
    begin('deciding')
    assert.equal(await answer(), 'waits')
    turn('own')
    assert.equal(await answer(), 'the NAR')
  })
  it('hears at once that it comes from another neighbour, or that it failed', async (t) => {
    const { table, begin, turn, ask } = bench(t)
    begin('deciding')
    const [first, second] = [ask(WAIT), ask(WAIT)]
    turn('along')
    assert.equal(await first(), 'a miss')
    table.remove(narHash)
    assert.equal(await second(), 'a miss')
  })
  it('waits no longer than it stays', async (t) => {
    const { begin, ask } = bench(t)
    begin('deciding')
    const gone = new AbortController()
    const answer = ask(WAIT, { signal: gone.signal })
    assert.equal(await answer(), 'waits')
    gone.abort(new Error('gone'))
    assert.equal(await answer(), 'an error')
  })
  it('does not wait for us when it is before us in the order of the NAR itself', async (t) => {
    const { table, begin, ask } = bench(t)
    table.expect(nar.info)
    assert.equal(await ask({ ...WAIT, as: FIRST })(), 'a miss')
    assert.equal(await ask({ ...WAIT, as: LAST })(), 'waits')
    begin('deciding')
    assert.equal(await ask({ ...WAIT, as: FIRST })(), 'a miss')
    assert.equal(await ask({ ...WAIT, as: LAST })(), 'waits')
    begin('own')
    assert.equal(await ask({ ...WAIT, as: FIRST })(), 'the NAR')
  })
  it('does not wait among too many', async (t) => {
    const { begin, ask } = bench(t)
    begin('deciding')
    const answers = Array.from({ length: ALONG_WAITING_MAX_COUNT }, () => ask(WAIT))
    assert.equal(await answers.at(-1)?.(), 'waits')
    assert.equal(await ask(WAIT)(), 'a miss')
    t.mock.timers.tick(300)
    assert.equal(await answers[0]?.(), 'a miss')
    assert.equal(await ask(WAIT)(), 'waits')
  })
  it('gets any range as it comes', async (t) => {
    const { begin, shared, followed } = bench(t)
    begin('own')
    const found = await shared.open(narHash, NO_WAIT, options)
    assert.ok(found)
    assert.equal(found.narSize, 100_000)
    const bytes = await collect(found.read({ start: 7, end: 5_000 }, options))
    assert.deepEqual(bytes, Buffer.from(nar.bytes.subarray(7, 5_000)))
    assert.deepEqual(followed, ['7-5000'])
  })
})
