import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { CACHE_INFO_MAX_BYTES } from '../../src/limits.ts'
import { createNeighbourProbe } from '../../src/swarm/neighbour-probe.ts'
import type { ProbeOutcome } from '../../src/swarm/neighbour-table.ts'
import { createNeighbourWatch } from '../../src/swarm/neighbour-watch.ts'

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** @returns its base, with a path */
async function serve(t: TestContext, answer: Answer): Promise<URL> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/below/`)
}

function probe(t: TestContext): ReturnType<typeof createNeighbourProbe> {
  const made = createNeighbourProbe({ stopwatch: () => performance.now() }, { storeDir: '/nix/store' })
  t.after(() => made.close())
  return made
}

const INFO = 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n'
const routes =
  (answers: Record<string, [status: number, body: string]>): Answer =>
  (request, response) => {
    const [status, body] = answers[request.url ?? ''] ?? [404, 'not here']
    response.writeHead(status).end(body)
  }
const CACHE_INFO = '/below/nix-cache-info'
const GATEWAY = '/below/ipfs/bafkqaaa?format=raw'
const signal = new AbortController().signal

const KINDS: Record<string, [kind: string, hasCache: boolean, answers: Parameters<typeof routes>[0]]> = {
  'a cache with a gateway': ['narswarm', true, { [CACHE_INFO]: [200, INFO], [GATEWAY]: [200, ''] }],
  'a gateway without a cache': ['narswarm', false, { [GATEWAY]: [200, ''] }],
  'a cache': ['cache', true, { [CACHE_INFO]: [200, INFO] }],
  'a cache that answers all else with a page': [
    'cache',
    true,
    { [CACHE_INFO]: [200, INFO], [GATEWAY]: [200, '<html>'] },
  ],
}
for (const [name, [kind, hasCache, answers]] of Object.entries(KINDS)) {
  test(`${name} is taken for a ${kind}`, async (t) => {
    const url = await serve(t, routes(answers))
    const told = await probe(t).ask(url, false, { signal })
    assert.deepEqual([told.kind, told.hasCache], [kind, hasCache])
  })
}

const VARIES: [vary: string | undefined, knows: boolean][] = [
  ['Accept, Accept-Encoding, Available-Dictionary', true],
  ['available-dictionary', true],
  ['Accept-Encoding', false],
  [undefined, false],
]
for (const [vary, knows] of VARIES) {
  test(`a gateway that answers with Vary ${vary ?? 'absent'} ${knows ? 'knows' : 'does not know'} differences`, async (t) => {
    const url = await serve(t, ({ url: target }, response) => {
      if (target === GATEWAY && vary !== undefined) response.setHeader('vary', vary)
      response.end(target === GATEWAY ? '' : INFO)
    })
    assert.equal((await probe(t).ask(url, false, { signal })).knowsDifferences, knows)
  })
}

test('of a page that stands where a gateway would be its Vary says nothing', async (t) => {
  const url = await serve(t, ({ url: target }, response) => {
    response.setHeader('vary', 'Available-Dictionary')
    response.end(target === GATEWAY ? '<html>' : INFO)
  })
  assert.equal((await probe(t).ask(url, false, { signal })).knowsDifferences, false)
})

const UNFIT: Record<string, [reason: RegExp, answer: Answer]> = {
  'a cache of another store': [
    /its store is "\/gnu\/store"/,
    routes({ [CACHE_INFO]: [200, 'StoreDir: /gnu/store\n'] }),
  ],
  'a web server': [/no binary cache/, routes({})],
  'a page with status 200': [/nix-cache-info/, routes({ [CACHE_INFO]: [200, '<html></html>'] })],
  'an error': [/HTTP 500/, routes({ [CACHE_INFO]: [500, ''], [GATEWAY]: [200, ''] })],
  'a redirect': [/HTTP 302/, (_, response) => response.writeHead(302, { location: '/' }).end()],
  'too much': [/at most/, routes({ [CACHE_INFO]: [200, 'x'.repeat(CACHE_INFO_MAX_BYTES + 1)] })],
  'a hang-up': [/./, (request) => request.socket.destroy()],
  silence: [/./, () => {}],
}
for (const [name, [reason, answer]] of Object.entries(UNFIT)) {
  test(`${name} is no neighbour`, async (t) => {
    const url = await serve(t, answer)
    await assert.rejects(probe(t).ask(url, false, { signal }), (error: Error) => reason.test(error.message))
  })
}

const RELAYS: Record<string, [isRelay: boolean, headers: Record<string, string>, gateway: number]> = {
  'a narswarm that says that it is one': [true, { 'Narswarm-Relay': '1' }, 200],
  'one that says nothing of it': [false, {}, 200],
  'one that says something else': [false, { 'Narswarm-Relay': '0' }, 200],
  'a cache without a gateway': [false, { 'Narswarm-Relay': '1' }, 404],
}
for (const [name, [isRelay, headers, gateway]] of Object.entries(RELAYS)) {
  test(`${name} is ${isRelay ? 'a' : 'no'} relay`, async (t) => {
    const url = await serve(t, (request, response) => {
      if (request.url === CACHE_INFO) response.writeHead(200, headers).end(INFO)
      else response.writeHead(gateway).end()
    })
    assert.equal((await probe(t).ask(url, false, { signal })).isRelay, isRelay)
  })
}

test('one that a narswarm said is its own is not asked for a gateway', async (t) => {
  const asked: (string | undefined)[] = []
  const url = await serve(t, (request, response) => {
    asked.push(request.url)
    response.end(INFO)
  })
  const { kind, knowsDifferences } = await probe(t).ask(url, true, { signal })
  assert.deepEqual([kind, knowsDifferences], ['narswarm', true])
  assert.deepEqual(asked, [CACHE_INFO])
})

test(
  'the watch asks each that is due once at a time, tells what came of it, and ends',
  { timeout: 20_000 },
  async (t) => {
    const url = await serve(t, routes({ [CACHE_INFO]: [200, INFO] }))
    const gone = new URL('http://127.0.0.1:1/')
    const outcomes = new Map<string, ProbeOutcome>()
    const due = new Map([
      ['cache:here', url],
      ['cache:gone', gone],
    ])
    const watch = createNeighbourWatch(
      {
        due: () => [...due].map(([id, at]) => ({ id, url: at })),
        dueInMs: () => 10,
        probed: (id, _, outcome) => {
          assert.ok(!outcomes.has(id))
          outcomes.set(id, outcome)
          due.delete(id)
        },
        onChange: () => () => {},
      },
      createNeighbourProbe({ stopwatch: () => performance.now() }, { storeDir: '/nix/store' }),
    )
    await watch.start()
    await watch.stop()
    const [here, there] = [outcomes.get('cache:here'), outcomes.get('cache:gone')]
    assert.equal(here !== undefined && 'kind' in here ? here.kind : '', 'cache')
    assert.ok(there !== undefined && 'error' in there)
  },
)
