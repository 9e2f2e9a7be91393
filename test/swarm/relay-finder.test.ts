import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { RELAY_REST_MS } from '../../src/limits.ts'
import { formatNarInfo } from '../../src/nix/narinfo.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { createRelayFinder } from '../../src/swarm/relay-finder.ts'
import { recordingLog } from '../kit/log.ts'
import { STORE_DIR } from '../nix/genuine.ts'
import { noise, options, planOf } from '../spool/kit.ts'
import { narInfoOf, pathNamed } from '../substitute/kit.ts'
import { neighbour, neighboursOf } from './near.ts'

const plan = planOf(noise(3_000_000, 'wanted'))
const info = narInfoOf(plan, 'program-1.1')
const older = pathNamed('program-1.0')
const text = formatNarInfo({ ...info, cid: plan.root.toString() }, STORE_DIR)
const other = narInfoOf(planOf(noise(3_000_000, 'other')), 'program-1.1')

type Answer = (request: IncomingMessage, response: ServerResponse) => void
const says =
  (status: number, body = ''): Answer =>
  (_, response) =>
    response.writeHead(status).end(body)

async function serve(
  t: TestContext,
  answer: Answer,
): Promise<{ url: string; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = []
  const server = createServer((request, response) => {
    asked.push(request.url)
    answer(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, asked }
}

async function finding(t: TestContext, ...answers: Answer[]) {
  const servers = await Promise.all(answers.map((answer) => serve(t, answer)))
  const relays = servers.map(({ url }, i) => ({ ...neighbour(`relay${i}`, url), isRelay: true }))
  const plain = neighbour('plain', (await serve(t, says(500))).url)
  let now = 1_000
  const finder = createRelayFinder(
    { neighbours: neighboursOf(plain, ...relays), clock: () => now, log: recordingLog() },
    { storeDir: STORE_DIR },
  )
  t.after(() => finder.close())
  const asked = (): number[] => servers.map((one) => one.asked.length)
  const find = () => finder.find(info, older, options)
  return { finder, servers, asked, find, pass: (ms: number) => void (now += ms) }
}

test('a relay is asked for both paths, and only its CID is taken', async (t) => {
  const { find, servers, finder } = await finding(t, says(200, text))
  assert.deepEqual(finder.relays(), ['neighbour:relay0'])
  const found = await find()
  assert.equal(found?.root.toString(), plan.root.toString())
  assert.equal(found?.told, 'neighbour:relay0')
  assert.deepEqual(servers[0]?.asked, [`/relay/${hashPartOf(info.storePath)}?older=${hashPartOf(older)}`])
})

test('one that needs time is asked again', async (t) => {
  let count = 0
  const { find, asked } = await finding(t, (request, response) => {
    count += 1
    if (count === 1) says(202, 'not yet\n')(request, response)
    else says(200, text)(request, response)
  })
  assert.ok(await find())
  assert.deepEqual(asked(), [2])
})

test('after a no the next one is asked', async (t) => {
  const { find, asked } = await finding(t, says(404), says(200, text))
  assert.equal((await find())?.told, 'neighbour:relay1')
  assert.deepEqual(asked(), [1, 1])
})

const USELESS: Record<string, string> = {
  'without a CID': formatNarInfo(info, STORE_DIR),
  'of another NAR': formatNarInfo({ ...other, cid: plan.root.toString() }, STORE_DIR),
}
for (const [which, body] of Object.entries(USELESS)) {
  test(`a narinfo ${which} is as good as none`, async (t) => {
    const { find, finder } = await finding(t, says(200, body))
    assert.equal(await find(), undefined)
    assert.equal(finder.relays().length, 1)
  })
}

const TROUBLE: Record<string, Answer> = {
  'an error': says(500),
  'a page': says(200, '<html>'),
  'a CID that is none': says(200, text.replace(/CID: .*/, 'CID: abc')),
  'a redirect': (_, response) => response.writeHead(302, { location: '/' }).end(),
  'too much': says(200, text + 'X: y\n'.repeat(300_000)),
  'a hang-up': (request) => request.socket.destroy(),
}
for (const [what, answer] of Object.entries(TROUBLE)) {
  test(`after ${what} it is left alone for a while`, async (t) => {
    const { find, asked, finder, pass } = await finding(t, answer)
    assert.equal(await find(), undefined)
    assert.deepEqual(finder.relays(), [])
    assert.equal(await find(), undefined)
    assert.deepEqual(asked(), [1])
    pass(RELAY_REST_MS + 1)
    await find()
    assert.deepEqual(asked(), [2])
  })
}

test('who has no use for it any more waits no longer, and the relay is not blamed', async (t) => {
  const { finder, servers } = await finding(t, () => {})
  const abort = new AbortController()
  const found = finder.find(info, older, { signal: abort.signal })
  while (servers[0]?.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  abort.abort(new Error('whole'))
  await assert.rejects(found, /whole/)
  assert.equal(finder.relays().length, 1)
})
