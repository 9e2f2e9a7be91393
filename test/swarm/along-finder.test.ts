import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TestContext } from 'node:test'
import { ALONG_EXPECTED_WAIT_MS, ALONG_MIN_BYTES, ALONG_WAIT_MS } from '../../src/limits.ts'
import { SourceFaultError, SourceMissError } from '../../src/source.ts'
import { createAlongFinder } from '../../src/swarm/along-finder.ts'
import type { AlongFinder, AlongFinderDeps } from '../../src/swarm/along-finder.ts'
import type { Neighbour, NeighbourId } from '../../src/swarm/neighbours.ts'
import { rendezvousOrder } from '../../src/swarm/rendezvous.ts'
import { recordingLog } from '../kit/log.ts'
import { rangeOf } from '../kit/range.ts'
import { collect, noise, options, planOf } from '../spool/kit.ts'
import { neighbour, neighboursOf } from './near.ts'
import type { TestNeighbours } from './near.ts'

const bytes = noise(300_000)
const plan = planOf(bytes)
const nar = { narHash: plan.narHash, narSize: plan.narSize }
const NONE: ReadonlySet<string> = new Set()

type Answer = (request: IncomingMessage, response: ServerResponse) => void

interface TestNeighbour {
  readonly one: Neighbour
  /** Method and what it was asked to wait for. */
  readonly asked: string[]
}

const miss: Answer = (_, response) => void response.writeHead(404).end()
const later =
  (ms: number, answer: Answer): Answer =>
  (request, response) =>
    void setTimeout(() => answer(request, response), ms)
const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    void response.writeHead(code, headers).end()
const gives: Answer = (request, response) => {
  const { start, end, status, headers } = rangeOf(request.headers.range, bytes.length)
  response.writeHead(status, { ...headers, 'content-type': 'application/x-nix-nar' })
  response.end(request.method === 'HEAD' ? undefined : bytes.subarray(start, end))
}
const silent: Answer = () => {}

/** Named so that they are in this order for the NAR, with `self` where it stands. */
async function street(t: TestContext, answers: readonly (Answer | 'self')[]): Promise<TestNeighbour[]> {
  const names = rendezvousOrder(
    nar.narHash,
    answers.map((_, i) => `narswarm:n${i}`),
  )
  return Promise.all(
    answers.map(async (answer, i) => {
      const name = (names[i] ?? '').replace('narswarm:', '')
      if (answer === 'self') return { one: neighbour(name, 'http://self.invalid/'), asked: [] }
      const asked: string[] = []
      const server = createServer((request, response) => {
        assert.equal(request.url, `/nar/${nar.narHash}.nar`)
        asked.push(`${request.method} ${String(request.headers['narswarm-along'])}`)
        answer(request, response)
      })
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve)
      })
      t.after(() => {
        server.closeAllConnections()
        server.close()
      })
      const { port } = server.address() as AddressInfo
      return { one: neighbour(name, `http://127.0.0.1:${port}/`), asked }
    }),
  )
}

interface Bench {
  finder: AlongFinder
  near: TestNeighbours
  find: (without?: ReadonlySet<string>) => Promise<string | undefined>
}

function bench(
  t: TestContext,
  all: readonly TestNeighbour[],
  self?: NeighbourId,
  changes: Partial<AlongFinderDeps> = {},
): Bench {
  const near = neighboursOf(...all.map(({ one }) => one).filter(({ id }) => id !== self))
  const finder = createAlongFinder({
    neighbours: near,
    self: () => self,
    usable: () => true,
    clock: () => performance.now(),
    log: recordingLog(),
    ...changes,
  })
  t.after(() => finder.close())
  const find = async (without = NONE) => (await finder.find(nar, without, options))?.id
  return { finder, near, find }
}

const along = ({ one }: TestNeighbour): string => `neighbour:${one.id.replace('narswarm:', '')}/nar`
const WAITING = `HEAD begun=${ALONG_WAIT_MS}, expected=${ALONG_EXPECTED_WAIT_MS}`

describe('asking neighbours for a NAR on its way', () => {
  it('waits for those before us, and only asks those behind', async (t) => {
    const all = await street(t, [miss, miss, 'self', miss, miss])
    const { find, near } = bench(t, all, all[2]?.one.id)
    assert.equal(await find(), undefined)
    const as = `, as=${all[2]?.one.id.replace('narswarm:', '')}`
    assert.deepEqual(
      all.map(({ asked }) => asked),
      [
        [`${WAITING}${as}`],
        [`${WAITING}${as}`],
        [],
        [`HEAD begun=0, expected=0${as}`],
        [`HEAD begun=0, expected=0${as}`],
      ],
    )
    while (near.told.answered.length < 4) await sleep(5)
  })
  it('waits for all while nobody can ask us', async (t) => {
    const all = await street(t, [miss, miss])
    assert.equal(await bench(t, all).find(), undefined)
    assert.deepEqual(
      all.map(({ asked }) => asked),
      [[WAITING], [WAITING]],
    )
  })
  it('takes the first that has it, whoever that is', async (t) => {
    const all = await street(t, [later(200, miss), 'self', gives])
    assert.equal(await bench(t, all, all[1]?.one.id).find(), along(all[2] as TestNeighbour))
  })
  it('takes one that has it after a while', async (t) => {
    const all = await street(t, [later(150, gives), miss, 'self'])
    assert.equal(await bench(t, all, all[2]?.one.id).find(), along(all[0] as TestNeighbour))
  })
  it('asks the first eight alone', async (t) => {
    const all = await street(
      t,
      Array.from({ length: 10 }, () => miss),
    )
    assert.equal(await bench(t, all).find(), undefined)
    assert.deepEqual(
      all.map(({ asked }) => asked.length),
      [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
    )
  })
  it('asks nobody for a tiny one, nor binary caches, nor those that were tried or are out', async (t) => {
    const all = await street(t, [gives, gives, gives])
    const [first, second, third] = all as [TestNeighbour, TestNeighbour, TestNeighbour]
    const { finder, find } = bench(
      t,
      [first, second, { ...third, one: { ...third.one, kind: 'cache' } }],
      undefined,
      { usable: (id) => id !== along(second) },
    )
    const tiny = { ...nar, narSize: ALONG_MIN_BYTES - 1 }
    assert.equal(await finder.find(tiny, NONE, options), undefined)
    assert.equal(await find(new Set([along(first)])), undefined)
    assert.deepEqual(
      all.map(({ asked }) => asked),
      [[], [], []],
    )
  })
  it('lets one that it knows by its URL alone say who is before whom', async (t) => {
    const all = (await street(t, ['self', miss])) as [TestNeighbour, TestNeighbour]
    const [{ one: self }, { one, asked }] = all
    const { find } = bench(t, [{ one: { ...one, id: `cache:${one.url.href}` }, asked }], self.id)
    assert.equal(await find(), undefined)
    assert.deepEqual(asked, [`${WAITING}, as=${self.id.replace('narswarm:', '')}`])
  })
  it('does not wait again for one whose Nix did not come', async (t) => {
    const clock = { now: 0 }
    const slow: Answer = (_, response) => {
      clock.now += ALONG_EXPECTED_WAIT_MS
      response.writeHead(404).end()
    }
    const [one] = (await street(t, [slow])) as [TestNeighbour]
    const { find } = bench(t, [one], undefined, { clock: () => clock.now })
    for (let i = 0; i < 2; i++) await find()
    clock.now += 60_000
    await find()
    assert.deepEqual(one.asked, [WAITING, `HEAD begun=${ALONG_WAIT_MS}, expected=0`, WAITING])
  })
  it('lets no second NAR wait for one that did not answer in time', async (t) => {
    const all = await street(t, ['self', silent, miss])
    const { find } = bench(t, all, all[0]?.one.id)
    assert.equal(await find(), undefined)
    assert.equal(await find(), undefined)
    assert.deepEqual(
      all.map(({ asked }) => asked.length),
      [0, 1, 2],
    )
  })
  const faults: [name: string, answer: Answer, told: RegExp][] = [
    ['an error', status(500), /expected a NAR or status 404, got 500/],
    ['a redirect', status(302, { location: 'http://127.0.0.1:1/' }), /got 302/],
    ['a page', status(200, { 'content-type': 'text/html' }), /expected a NAR, got "text\/html"/],
    ['a cut connection', (_, response) => void response.destroy(), /other side closed|ECONNRESET/],
  ]
  for (const [name, answer, told] of faults) {
    it(`takes ${name} for a fault`, async (t) => {
      const all = await street(t, [answer, gives])
      const { find, near } = bench(t, all)
      assert.equal(await find(new Set([along(all[1] as TestNeighbour)])), undefined)
      assert.equal(near.told.failed.length, 1)
      assert.match(near.told.failed[0] ?? '', told)
      assert.equal(await find(), along(all[1] as TestNeighbour))
    })
  }
  it('takes a dead neighbour for one', async (t) => {
    const near = [{ one: neighbour('dead', 'http://127.0.0.1:1/'), asked: [] }]
    const { find, near: table } = bench(t, near)
    assert.equal(await find(), undefined)
    assert.match(table.told.failed[0] ?? '', /ECONNREFUSED|bad port/)
  })
})

describe('the stream of a neighbour', () => {
  async function opened(t: TestContext, answer: Answer, from: number): Promise<Buffer> {
    const all = await street(t, [
      (request, response) => (request.method === 'HEAD' ? gives : answer)(request, response),
    ])
    const { finder } = bench(t, all)
    const source = await finder.find(nar, NONE, options)
    assert.ok(source)
    return collect(source.open(nar, from, options))
  }
  it('gives the NAR from any byte on', async (t) => {
    assert.deepEqual(await opened(t, gives, 0), bytes)
    assert.deepEqual(await opened(t, gives, 123_456), bytes.subarray(123_456))
  })
  it('that is there no more is a miss', async (t) => {
    await assert.rejects(opened(t, miss, 0), SourceMissError)
  })
  const faults: [name: string, from: number, answer: Answer][] = [
    ['an error', 0, status(500)],
    ['a page', 0, status(200, { 'content-type': 'text/html' })],
    ['all of it, for a part', 100, (_, response) => void response.writeHead(200).end(bytes)],
    [
      'another part',
      100,
      (_, response) => {
        response.writeHead(206, {
          'content-type': 'application/x-nix-nar',
          'content-range': `bytes 101-${bytes.length - 1}/${bytes.length}`,
        })
        response.end()
      },
    ],
    [
      'a cut',
      0,
      (_, response) => {
        response.writeHead(200, {
          'content-type': 'application/x-nix-nar',
          'content-length': bytes.length,
        })
        response.write(bytes.subarray(0, 1_000), () => response.destroy())
      },
    ],
  ]
  for (const [name, from, answer] of faults) {
    it(`that gives ${name} is a fault`, async (t) => {
      await assert.rejects(opened(t, answer, from), SourceFaultError)
    })
  }
})
